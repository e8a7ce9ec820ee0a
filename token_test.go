package roam_test

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/roam-web/roam"
)

// whatever a program prints, it does not print the secret.
func TestATokenPrintsAsItsID(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	s := start(t, m, "a")
	text := s.Token.Reveal()
	raw, _ := base64.RawURLEncoding.DecodeString(text)
	secret := raw[16:]
	type hidden struct{ tok roam.Token } // fmt cannot call methods of unexported fields
	var out bytes.Buffer
	for _, v := range []any{s.Token, &s.Token, s, &s, hidden{s.Token}, &hidden{s.Token}, []roam.Token{s.Token},
		map[string]any{"t": s.Token}, errors.Join(fmt.Errorf("for %v", s.Token)), visitor(t, s)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		json.NewEncoder(&out).Encode(v)
	}
	gob.NewEncoder(&out).Encode(struct{ T roam.Token }{s.Token})
	for name, form := range map[string]string{
		"text": text, "base64": text[22:], "raw": string(secret), "hex": fmt.Sprintf("%x", secret),
		"HEX": fmt.Sprintf("%X", secret), "decimal": strings.Trim(fmt.Sprint(secret), "[]"), "go": strings.TrimPrefix(fmt.Sprintf("%#v", secret), "[]byte{"),
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret was printed as %s", name)
		}
	}
	if got := fmt.Sprintf("%v %+v %#v %d", s.Token, s.Token, s.Token, s.Token); got != strings.TrimSpace(strings.Repeat(s.ID.String()+" ", 4)) {
		t.Errorf("a token prints as %s", got)
	}
}

// one token, one encoding.
func TestATokenHasOneEncoding(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	text := start(t, m, "a").Token.Reveal()
	if len(text) != 64 {
		t.Fatalf("a token has %d characters, want 64", len(text))
	}
	bad := []string{"", text[:63], text + "A", text + "=", `"` + text + `"`, text[:62] + "\r\n", text[:63] + "\n", "\n" + text[1:],
		text + "\n", " " + text, strings.Replace(text, text[:1], "+", 1), text[:63] + "/", strings.Repeat("A", 64), strings.Repeat("A", 1<<20)}
	for _, s := range bad {
		if tok, err := roam.ParseToken(s); err == nil || !tok.IsZero() {
			t.Errorf("ParseToken(%.70q) = %v, want an error", s, tok)
		} else if len(s) > 20 && strings.Contains(err.Error(), s[10:20]) {
			t.Errorf("the error holds the token: %v", err)
		}
	}
}

// the secret is what the random generator gave, all 256 bits of it.
func TestTheSecretIsRandom(t *testing.T) {
	reveal := func(seed uint64) (text string) {
		t.Run("", func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			text = start(t, manager(t, roam.NewMemStore(), nil), "a").Token.Reveal()
		})
		return text
	}
	if a, b := reveal(1), reveal(1); a != b {
		t.Error("something besides crypto/rand went into the token")
	}
	seen := make(map[string]bool)
	for seed := range uint64(100) {
		raw, _ := base64.RawURLEncoding.DecodeString(reveal(seed))
		for i := 16; i < 48; i += 8 {
			if part := fmt.Sprint(i, raw[i:i+8]); seen[part] {
				t.Errorf("eight bytes of a secret occurred twice")
			} else {
				seen[part] = true
			}
		}
	}
}

// The forms of tokens and proofs are for ever: another one would log everybody
// out when the program is upgraded.
func TestTheFormsStayAsTheyAre(t *testing.T) {
	const text = "AAECAwQFRgeICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v"
	const id = "00010203-0405-4607-8809-0a0b0c0d0e0f"
	const proof = "f27fedc38a88d9454ff76b36b6e7fc6717bb5f32f2755f9812dbb1fb195e5df2"
	tok, err := roam.ParseToken(text)
	if err != nil || tok.String() != id {
		t.Fatalf("ParseToken = %v, %v; want %s", tok, err, id)
	}
	store := roam.NewMemStore()
	var rec roam.Record
	rec.ID = tok.ID()
	if _, err := hex.Decode(rec.Proof[:], []byte(proof)); err != nil {
		t.Fatal(err)
	}
	rec.Idle, rec.Lifetime = time.Hour, time.Hour
	if _, err := store.Insert(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if _, err := manager(t, store, nil).Get(t.Context(), tok); err != nil {
		t.Error(err)
	}
}

func TestATokenThatCameInCannotBeSentBack(t *testing.T) {
	m := manager(t, roam.NewMemStore(), nil)
	s := start(t, m, "a")
	tok := visitor(t, s)
	if tok.Reveal() != "" {
		t.Error("a parsed token reveals its secret")
	}
	if !tok.Equal(s.Token) || tok.ID() != s.ID {
		t.Error("a parsed token is not equal to the one that was revealed")
	}
	got, _ := m.Get(t.Context(), tok)
	if got.Token.Reveal() != "" || tok.Equal(roam.Token{}) || !(roam.Token{}).Equal(roam.Token{}) {
		t.Error("Reveal or Equal is wrong")
	}
}

func TestIDs(t *testing.T) {
	s := start(t, manager(t, roam.NewMemStore(), nil), "a")
	id, err := roam.ParseID(s.ID.String())
	if err != nil || id != s.ID {
		t.Errorf("ParseID(%s) = %v, %v", s.ID, id, err)
	}
	var back struct{ ID roam.ID }
	b, _ := json.Marshal(struct{ ID roam.ID }{id})
	if err := json.Unmarshal(b, &back); err != nil || back.ID != id {
		t.Errorf("%s came back as %v, %v", b, back.ID, err)
	}
	text := s.ID.String()
	for _, bad := range []string{"", text[1:], text + "0", strings.Replace(text, "-", "_", 1), "zz" + text[2:],
		text[:14] + "1" + text[15:], "00000000-0000-0000-0000-000000000000"} {
		if _, err := roam.ParseID(bad); err == nil {
			t.Errorf("ParseID(%q): no error", bad)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(strings.Repeat("A", 64))
	f.Add("AAAAAAAAQACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := roam.ParseToken(s)
		if (err == nil) == tok.IsZero() {
			t.Errorf("ParseToken(%q) = %v, %v", s, tok, err)
		}
		if err == nil {
			raw, _ := base64.RawURLEncoding.DecodeString(s)
			if base64.RawURLEncoding.EncodeToString(raw) != s {
				t.Errorf("%q is a second encoding", s)
			}
		}
	})
}
