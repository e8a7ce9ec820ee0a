package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/roam-web/roam/cmd/roam/internal/farm"
)

// storeManual is the part of a command's manual that explains --store.
const storeManual = `
A store URL says where the sessions are:
  sqlite:sessions.db          a file, relative to the current folder
  sqlite:///srv/sessions.db   a file, by its absolute path
  postgres://shop@db/site     PostgreSQL: the database "site" on the host "db"
  postgres://shop@a,b/site    the same on two hosts, of which one is the primary
  memory:                     in each server's own memory: the design that loses
                              sessions, to see it do so
What follows "sqlite:" is the file's name as it is; nothing in it is escaped.

A PostgreSQL URL is one of libpq's: postgres://user:password@host:port/database,
with parameters after it, such as ?sslmode=verify-full. In a password write %40
for @, %2F for /, %23 for #, %3F for ?, %25 for %. Better, leave it out: it is
looked up in $PGPASSWORD and ~/.pgpass, and other users of this machine cannot
read it there. Two parameters are ours: schema and table name the place of the
sessions, if it is not the table that "roam schema postgres" makes.`

// A storeURL is a store URL that was understood.
type storeURL struct {
	scheme string // "sqlite", "memory", "postgres", or "none" for no store at all
	file   string // of sqlite, in the system's form
	dsn    string // of postgres, for the driver: without the parameters that are ours

	schema, table string // of postgres, "" for the default
}

// The schemes, and those that are planned and not built in yet.
var (
	schemes = []string{"sqlite", "memory", "postgres", "postgresql"}
	planned = []string{"mysql", "mariadb", "redis", "valkey"}
)

// parseStore reads a store URL. Its errors suggest the nearest right one, and
// show no password.
func parseStore(text string) (storeURL, error) {
	name, rest, ok := strings.Cut(text, ":")
	switch {
	case text == farm.NoStore:
		return storeURL{scheme: text}, nil
	case strings.HasPrefix(text, "jdbc:"):
		return storeURL{}, misuse("did you mean %q?", fromJDBC(text))("the store %q is a URL of Java's", farm.Redact(text))
	case keyValue(text):
		return storeURL{}, misuse("write it as a URL: %q", fromKeyValues(text))("the store %q is no URL", farm.Redact(text))
	case !ok && !strings.Contains(text, "@"), len(name) == 1, strings.ContainsAny(name, `/\`): // one letter is a drive
		return storeURL{}, misuse("did you mean %q?", bare(text))("the store %q has no scheme", farm.Redact(text))
	case strings.ContainsAny(name, ".@") || name == "localhost" || strings.HasPrefix(name, "["), strings.Contains(rest, "@") && !strings.HasPrefix(rest, "/") && nearest(name, schemes) == "":
		return storeURL{}, misuse("did you mean %q?", bare(text))("the store %q has no scheme", farm.Redact(text))
	}
	switch name {
	case "sqlite":
		file, err := sqliteFile(text, rest)
		return storeURL{scheme: name, file: file}, err
	case "memory":
		if rest != "" {
			return storeURL{}, misuse("write \"memory:\", with nothing after it")("the store %q has more than its scheme", text)
		}
		return storeURL{scheme: name}, nil
	case "postgres", "postgresql":
		return parsePostgres(text, name, rest)
	case farm.NoStore:
		return storeURL{}, misuse("write \"none\", with nothing after it")("the store %q is more than the word", farm.Redact(text))
	}
	for _, p := range planned {
		if p == name {
			return storeURL{}, misuse("this version has sqlite:, for all servers on one machine, and postgres:, for many machines")("%s: is not built in yet", name)
		}
	}
	near := nearest(name, append(schemes, planned...))
	switch base, _, _ := strings.Cut(strings.ToLower(name), "+"); base { // what other programs call it
	case "postgres", "postgresql", "pg", "pgx", "pgsql", "psql", "postgre":
		near = "postgres"
	case "sqlite3", "file":
		near = "sqlite"
	}
	if near != "" {
		return storeURL{}, misuse("did you mean %q?", farm.Redact(near+":"+rest))("there is no store scheme %q", name)
	}
	return storeURL{}, misuse("this version knows sqlite:, postgres: and memory:")("there is no store scheme %q", name)
}

// bare is the nearest URL of what has no scheme: a file name, or a host.
func bare(text string) string {
	host, _, _ := strings.Cut(text, "/")
	_, port, _ := strings.Cut(host, ":")
	network := strings.Contains(text, "@") || port != "" && strings.Trim(port, "0123456789") == "" || strings.HasPrefix(host, "localhost")
	if network {
		return farm.Redact("postgres://" + strings.TrimPrefix(text, "//"))
	}
	return "sqlite:" + text
}

func sqliteFile(text, rest string) (string, error) {
	if path, ok := strings.CutPrefix(rest, "//"); ok {
		if !strings.HasPrefix(path, "/") {
			return "", misuse("write \"sqlite:%s\" for a file in this folder, \"sqlite:///%s\" for an absolute path", path, path)(
				"the store %q has a host name, and sqlite has no hosts", text)
		}
		rest = path
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		return "", misuse("write \"sqlite:%s\"; all servers of a file must use the same settings, so roam chooses them", rest[:i])(
			"the store %q has parameters", text)
	}
	if rest == "" || strings.HasSuffix(rest, "/") {
		return "", misuse("write for instance \"sqlite:sessions.db\"")("the store %q names no file", text)
	}
	return filepath.FromSlash(rest), nil
}

// parsePostgres checks a PostgreSQL URL by hand, because net/url neither knows
// several hosts nor what the user may have meant.
func parsePostgres(text, name, rest string) (u storeURL, err error) {
	shown := farm.Redact(text)
	wrong := func(hint string, args ...any) func(string, ...any) error {
		return misuse(strings.ReplaceAll(fmt.Sprintf(hint, args...), "%", "%%"))
	}
	if strings.Trim(rest, "/") == "" {
		return u, wrong(`write for instance "postgres://USER:PASSWORD@HOST/DATABASE"`)("the store %q names no host and no database", shown)
	}
	if !strings.HasPrefix(rest, "//") {
		return u, wrong("did you mean %q?", farm.Redact(name+"://"+strings.TrimLeft(rest, "/")))("the store %q has no // after its scheme", shown)
	}
	// What a password must not hold as it is ends the part that it is in too early.
	body := rest[2:]
	if strings.Contains(body, "#") {
		return u, wrong("write %%23 for each # in the password")("the store %q has a #, at which a URL ends", shown)
	}
	end := strings.IndexAny(body, "/?")
	if end < 0 {
		end = len(body)
	}
	authority, tail := body[:end], body[end:]
	at := strings.LastIndexByte(authority, '@')
	if i := strings.IndexByte(tail, '@'); i >= 0 && (at < 0 && strings.Contains(authority, ":") && !ports(authority)) {
		escape := map[byte]string{'/': "%2F", '?': "%3F"}[tail[0]]
		return u, wrong("write %s for each %c in the password", escape, tail[0])("the store %q has a %c before its @, at which the host would end", shown, tail[0])
	}
	hosts := authority[at+1:]
	if at >= 0 {
		if strings.Contains(authority[:at], "@") {
			return u, wrong("write %%40 for each @ in the user's name and the password, but for the last one: %q", shown)("the store %q has more than one @", shown)
		}
		if _, err := url.PathUnescape(authority[:at]); err != nil {
			return u, wrong("write %%25 for each %% in the password")("in the store %q a %% of the user's name or password is not followed by two hexadecimal digits", shown)
		}
	}
	if !ports(hosts) {
		if at < 0 && strings.Contains(shown, "xxxxx") {
			return u, wrong("write %q", strings.Replace(shown, "xxxxx", "xxxxx@HOST", 1))("the store %q has a port that is no number, or a password and no host", shown)
		}
		return u, wrong(`write for instance "postgres://USER:PASSWORD@HOST:5432/DATABASE"`)("the store %q has a port that is no number from 1 to 65535", shown)
	}
	path, query, _ := strings.Cut(tail, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return u, wrong("write %%25 for %% and %%26 for & in a parameter's value")("the parameters of the store %q cannot be read", shown)
	}
	if hosts == "" && values.Get("host") == "" {
		return u, wrong("write %q", strings.Replace(shown, "///", "//HOST/", 1))("the store %q names no host", shown)
	}
	database := strings.TrimPrefix(path, "/")
	if database == "" && values.Get("dbname") == "" {
		example := name + "://" + farm.Redact(name + "://" + authority)[len(name)+3:] + "/DATABASE"
		return u, wrong("write %q", example)("the store %q names no database", shown)
	}
	if strings.Contains(database, "/") {
		first, more, _ := strings.Cut(database, "/")
		return u, wrong("if %q is the schema, write %q", more, strings.Replace(shown, "/"+database, "/"+first+"?schema="+url.QueryEscape(more), 1))("the store %q has more than a database after its host", shown)
	}
	u = storeURL{scheme: "postgres", schema: values.Get("schema"), table: values.Get("table")}
	values.Del("schema")
	values.Del("table")
	u.dsn = name + "://" + authority + path
	if len(values) > 0 {
		u.dsn += "?" + values.Encode()
	}
	return u, nil
}

// ports reports whether a list of hosts has right ports, if any.
func ports(hosts string) bool {
	for one := range strings.SplitSeq(hosts, ",") {
		if i := strings.LastIndexByte(one, ']'); i >= 0 { // IPv6
			one = one[i+1:]
		}
		_, port, ok := strings.Cut(one, ":")
		if !ok {
			continue
		}
		if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" || len(port) == 5 && port > "65535" || strings.Trim(port, "0") == "" {
			return false
		}
	}
	return true
}

// fromJDBC makes postgres://user:xxxxx@host/db of jdbc:postgresql://host/db?user=…
func fromJDBC(text string) string {
	text = strings.TrimPrefix(farm.Redact(text), "jdbc:")
	head, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return head
	}
	user, password := values.Get("user"), values.Get("password")
	values.Del("user")
	values.Del("password")
	if password != "" {
		user += ":" + password
	}
	if user != "" {
		head = strings.Replace(head, "://", "://"+user+"@", 1)
	}
	if len(values) > 0 {
		head += "?" + values.Encode()
	}
	return head
}

// keyValue says that the text is in libpq's other form: host=db dbname=site.
func keyValue(text string) bool {
	for _, key := range []string{"host=", "dbname=", "user=", "port=", "hostaddr="} {
		if strings.HasPrefix(text, key) {
			return true
		}
	}
	return false
}

func fromKeyValues(text string) string {
	values := map[string]string{}
	for _, pair := range strings.Fields(farm.Redact(text)) {
		k, v, _ := strings.Cut(pair, "=")
		values[k] = strings.Trim(v, "'")
	}
	get := func(key, other string) string {
		if v := values[key]; v != "" {
			return v
		}
		return other
	}
	user := get("user", "USER")
	if values["password"] != "" {
		user += ":" + values["password"]
	}
	host := get("host", "HOST")
	if p := values["port"]; p != "" {
		host += ":" + p
	}
	return "postgres://" + user + "@" + host + "/" + get("dbname", "DATABASE")
}

// absolute returns the store URL as other processes in other folders can use it.
func absolute(text string) (string, error) {
	u, err := parseStore(text)
	if err != nil || u.scheme != "sqlite" {
		return text, err
	}
	path, err := filepath.Abs(u.file)
	if err != nil {
		return "", err
	}
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") { // a drive
		path = "/" + path
	}
	return "sqlite://" + path, nil
}
