package shop

import (
	"net/netip"
	"strings"
)

// Address writes where a login came from.
func (p page) Address(a netip.Addr) string {
	if !a.IsValid() {
		return p.T("an unknown address")
	}
	return a.String()
}

// Device makes "Firefox on Linux" of a User-Agent header. It is a guess for
// people who look through their devices; nothing is decided by it.
func (p page) Device(agent string) string {
	browser, system := firstSign(browsers, agent), firstSign(systems, agent)
	switch {
	case browser == "" && system == "":
		return p.T("an unknown device")
	case browser == "":
		return p.T("a browser on %s", system)
	case system == "":
		return browser
	}
	return p.T("%s on %s", browser, system)
}

// Handheld reports whether the device looks like a phone.
func (p page) Handheld(agent string) bool { return strings.Contains(agent, "Mobile") }

// A sign is a part of a User-Agent header and what it is a sign of. The first
// one found counts, because most browsers claim to be the ones below them too.
type sign struct{ part, name string }

var browsers = []sign{
	{"Edg", "Edge"},
	{"OPR/", "Opera"},
	{"SamsungBrowser/", "Samsung Internet"},
	{"Vivaldi/", "Vivaldi"},
	{"Firefox/", "Firefox"},
	{"FxiOS/", "Firefox"},
	{"Chrome/", "Chrome"},
	{"CriOS/", "Chrome"},
	{"Safari/", "Safari"},
	{"curl/", "curl"},
}

var systems = []sign{
	{"iPhone", "iPhone"},
	{"iPad", "iPad"},
	{"Android", "Android"},
	{"CrOS", "ChromeOS"},
	{"Windows", "Windows"},
	{"Mac OS X", "macOS"},
	{"Linux", "Linux"},
}

func firstSign(signs []sign, agent string) string {
	for _, s := range signs {
		if strings.Contains(agent, s.part) {
			return s.name
		}
	}
	return ""
}
