package shop

import (
	"fmt"
	"net/http"
)

// The English text of a page is the key to its text in other languages, so
// that templates can be read. What has no translation stays English.
var languages = map[string]map[string]string{"en": nil, "de": german}

func translate(lang, text string, args ...any) string {
	if t, ok := languages[lang][text]; ok {
		text = t
	}
	if len(args) > 0 {
		return fmt.Sprintf(text, args...)
	}
	return text
}

// languageOf returns the language that the visitor chose.
func languageOf(r *http.Request) string {
	c, err := r.Cookie("lang")
	if err != nil {
		return "en"
	}
	return languageNamed(c.Value)
}

func languageNamed(lang string) string {
	if _, ok := languages[lang]; ok {
		return lang
	}
	return "en"
}
