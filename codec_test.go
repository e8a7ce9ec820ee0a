package roam

import (
	"encoding/json"
	"testing"
)

func TestJSONKeepsUnknownFields(t *testing.T) {
	type embedded struct{ Deep int }
	type pointed struct{ Far int }
	type Named struct{ Inner int }
	type known struct {
		A int `json:"a"`
		B string
		embedded
		*pointed
		Named   `json:"named,omitzero"`
		Skipped int `json:"-"`
		private int
	}
	_ = known{}.private
	for _, c := range []struct{ was, want string }{
		{``, `{"a":1,"B":"","Deep":2}`},
		{`{}`, `{"a":1,"B":"","Deep":2}`},
		{`null`, `{"a":1,"B":"","Deep":2}`},
		{`[1]`, `{"a":1,"B":"","Deep":2}`},
		{`{"A":9,"b":"old","DEEP":7,"far":8}`, `{"a":1,"B":"","Deep":2}`},
		{`{"new": {"x": [1, "}"]}, "a":5, "é\"": null}`, `{"a":1,"B":"","Deep":2,"new":{"x": [1, "}"]},"é\"":null}`},
		{`{"Inner":1,"named":{"Inner":2}}`, `{"a":1,"B":"","Deep":2,"Inner":1}`},
		{`{"Skipped":1,"private":2}`, `{"a":1,"B":"","Deep":2,"Skipped":1,"private":2}`},
	} {
		got, err := JSON{}.Encode(&known{A: 1, embedded: embedded{2}}, []byte(c.was))
		if err != nil || string(got) != c.want || !json.Valid(got) {
			t.Errorf("over %s: %s, %v; want %s", c.was, got, err, c.want)
		}
	}
	if got, err := (JSON{}).Encode(&struct{}{}, []byte(`{"x":1,"y":2}`)); err != nil || string(got) != `{"x":1,"y":2}` {
		t.Errorf("into an empty object: %s, %v", got, err)
	}
	if got, err := (JSON{}).Encode(&map[string]int{"a": 1}, []byte(`{"x":1}`)); err != nil || string(got) != `{"a":1}` {
		t.Errorf("a map deletes what it deletes: %s, %v", got, err)
	}
	if _, err := (JSON{}).Encode(&struct{}{}, []byte(`{"x":`)); err == nil {
		t.Error("broken stored data: no error")
	}
}

func FuzzJSONKeepsUnknownFields(f *testing.F) {
	f.Add([]byte(`{"new":1,"Items":["a"]}`))
	f.Fuzz(func(t *testing.T, was []byte) {
		var v struct{ Items []string }
		if json.Unmarshal(was, &v) != nil {
			return
		}
		got, err := JSON{}.Encode(&v, was)
		if err != nil {
			t.Fatalf("over %q: %v", was, err)
		}
		var before, after map[string]any
		if json.Unmarshal(was, &before) != nil || before == nil {
			return
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("over %q: %q: %v", was, got, err)
		}
		for key := range before {
			if _, ok := after[key]; !ok && !equalFold(key) {
				t.Errorf("over %q: %q lost %q", was, got, key)
			}
		}
	})
}

func equalFold(key string) bool {
	var v struct{ Items json.RawMessage }
	quoted, _ := json.Marshal(map[string]int{key: 1})
	return json.Unmarshal(quoted, &v) == nil && v.Items != nil
}
