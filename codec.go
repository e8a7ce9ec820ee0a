package roam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
)

// A Codec turns session data into bytes and back.
type Codec interface {
	// Encode returns the encoding of v, a *T. It must be deterministic: equal
	// values have equal encodings. was is nil, or the stored encoding that v
	// was decoded from, in which a newer version of the program may have put
	// what T does not know; Encode keeps as much of that as it can.
	Encode(v any, was []byte) ([]byte, error)

	// Decode sets v, a pointer to a zero T, from data, and keeps no part of
	// data.
	Decode(data []byte, v any) error
}

// JSON is the default [Codec], encoding/json. It keeps top-level fields of the
// stored object that T, a struct, does not have.
type JSON struct{}

// Decode implements [Codec].
func (JSON) Decode(data []byte, v any) error {
	if len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, v)
}

// Encode implements [Codec].
func (JSON) Encode(v any, was []byte) ([]byte, error) {
	data, err := json.Marshal(v)
	t := reflect.TypeOf(v).Elem()
	if _, own := v.(json.Marshaler); err != nil || own || t.Kind() != reflect.Struct || !bytes.HasPrefix(was, []byte("{")) {
		return data, err
	}
	dec := json.NewDecoder(bytes.NewReader(was))
	dec.Token() // the opening brace
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		if name := key.(string); !hasField(t, name) {
			quoted, err := json.Marshal(name)
			if err != nil {
				return nil, err
			}
			sep := ","
			if len(data) == len("{}") {
				sep = ""
			}
			data = fmt.Appendf(data[:len(data)-1], "%s%s:%s}", sep, quoted, value)
		}
	}
	return data, nil
}

// hasField reports whether encoding/json would decode a key into a field of t.
// Like that package it ignores case, and looks into embedded structs unless
// they have a name of their own.
func hasField(t reflect.Type, key string) bool {
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		if tag == "-" {
			continue
		}
		if f.Anonymous && name == "" {
			in := f.Type
			if in.Kind() == reflect.Pointer {
				in = in.Elem()
			}
			if in.Kind() == reflect.Struct {
				if in != t && hasField(in, key) {
					return true
				}
				continue
			}
		}
		if name == "" {
			name = f.Name
		}
		if f.IsExported() && strings.EqualFold(name, key) {
			return true
		}
	}
	return false
}
