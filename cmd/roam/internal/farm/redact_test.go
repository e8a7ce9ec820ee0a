package farm

import (
	"strings"
	"testing"
)

func TestNoPasswordIsShown(t *testing.T) {
	for url, want := range map[string]string{
		"sqlite:sessions.db":                                "sqlite:sessions.db",
		"sqlite:///a:b@c/sessions.db":                       "sqlite:///a:b@c/sessions.db",
		"memory:":                                           "memory:",
		"postgres://db/sessions":                            "postgres://db/sessions",
		"postgres://shop@db/sessions":                       "postgres://shop@db/sessions",
		"postgres://shop:hunter2@db/sessions":               "postgres://shop:xxxxx@db/sessions",
		"postgres://shop:hunter2@a:1,b:2/s?sslmode=off":     "postgres://shop:xxxxx@a:1,b:2/s?sslmode=off",
		"postgres://a:5432,b:5433/s":                        "postgres://a:5432,b:5433/s",
		"postgres://[::1]:5432/s":                           "postgres://[::1]:5432/s",
		"postgres://shop:hun@ter2@db/sessions":              "postgres://shop:xxxxx@db/sessions",
		"postgres://shop:hun/ter2@db/sessions":              "postgres://shop:xxxxx@db/sessions",
		"postgres://shop:hun#ter2@db/sessions":              "postgres://shop:xxxxx@db/sessions",
		"postgres://shop:hun?ter2@db/sessions":              "postgres://shop:xxxxx@db/sessions",
		"postgres://shop:hunter2":                           "postgres://shop:xxxxx",
		"postgres://shop:hunter2/sessions":                  "postgres://shop:xxxxx/sessions",
		"postgres:shop:hunter2@db/sessions":                 "postgres:shop:xxxxx@db/sessions",
		"postgres:/shop:hunter2@db/sessions":                "postgres:/shop:xxxxx@db/sessions",
		"jdbc:postgresql://db/s?user=shop&password=hunter2": "jdbc:postgresql://db/s?user=shop&password=xxxxx",
		"postgres://db/s?password=hunter2&sslmode=off":      "postgres://db/s?password=xxxxx&sslmode=off",
		"host=db user=shop password=hunter2 dbname=s":       "host=db user=shop password=xxxxx dbname=s",
		"host=db password = 'hun ter2' dbname=s":            "host=db password = xxxxx dbname=s",
		"shop:hunter2@db/sessions":                          "shop:xxxxx@db/sessions",
	} {
		got := Redact(url)
		if got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
		if strings.Contains(got, "hun") || strings.Contains(got, "ter2") {
			t.Errorf("%s: the password is in %s", url, got)
		}
	}
}
