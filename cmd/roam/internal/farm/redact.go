package farm

import (
	"regexp"
	"strings"
)

// hidden stands where a password was.
const hidden = "xxxxx"

// Redact returns a store URL as it may be shown and logged: without its
// password. It takes whatever a user may have typed for one, also what is no
// URL at all, and rather hides too much than too little.
//
//	postgres://shop:hunter2@db/sessions  →  postgres://shop:xxxxx@db/sessions
func Redact(url string) string {
	url = passwordSetting.ReplaceAllString(url, "${1}"+hidden)
	if strings.HasPrefix(url, "sqlite:") { // file names have no passwords
		return url
	}
	head, rest := "", url
	if i := strings.Index(url, "//"); i >= 0 {
		head, rest = url[:i+2], url[i+2:]
	} else if i := strings.IndexByte(url, ':'); i >= 0 && !strings.Contains(url[:i], "@") && schemeLike.MatchString(url[:i]) {
		head, rest = url[:i+1], url[i+1:]
	}
	// What is before the last @ may all be user and password: one that holds
	// an @, a / or a # which should have been escaped.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, has := strings.Cut(rest[:at], ":")
		if has {
			return head + user + ":" + hidden + rest[at:]
		}
		if head != "" && !strings.HasSuffix(head, "//") && strings.Trim(head, ":") != "" { // user:password@host, without a scheme
			return head + hidden + rest[at:]
		}
		return url
	}
	// Without an @ what follows a colon should be a port. If it is not, it may
	// be a password whose host is missing.
	host, path, slash := strings.Cut(rest, "/")
	for i, one := range strings.Split(host, ",") {
		if i == 0 {
			host = ""
		} else {
			host += ","
		}
		if name, port, ok := strings.Cut(one, ":"); ok && strings.Trim(port, "0123456789") != "" && !strings.HasPrefix(one, "[") {
			one = name + ":" + hidden
		}
		host += one
	}
	if slash {
		host += "/" + path
	}
	return head + host
}

var (
	// passwordSetting finds password=… in the parameters of a URL and in the
	// key=value form that libpq also takes.
	passwordSetting = regexp.MustCompile(`(?i)((?:ssl)?pass(?:word|wd|phrase)?\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]*)`)

	schemeLike = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+:-]*$`)
)
