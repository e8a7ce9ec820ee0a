package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

// A jar is a browser's cookies for one site, as little of it as is needed.
type jar []cookie

type cookie struct{ name, value string }

func parseJar(header string) jar {
	var j jar
	for part := range strings.SplitSeq(header, "; ") {
		if name, value, ok := strings.Cut(part, "="); ok {
			j = append(j, cookie{name, value})
		}
	}
	return j
}

// set does what a Set-Cookie header says. Those of the sites delete a cookie by
// an empty value, or by an age or a date that has passed.
func (j *jar) set(line string) {
	pair, attributes, _ := strings.Cut(line, ";")
	name, value, _ := strings.Cut(pair, "=")
	gone := value == "" || strings.Contains(attributes, "Max-Age=0") || strings.Contains(attributes, "max-age=0") || strings.Contains(attributes, "01 Jan 1970")
	for i := range *j {
		if (*j)[i].name == name {
			if gone {
				*j = append((*j)[:i:i], (*j)[i+1:]...)
			} else {
				(*j)[i].value = value
			}
			return
		}
	}
	if !gone {
		*j = append(*j, cookie{name, value})
	}
}

func (j jar) header() string {
	var b strings.Builder
	b.Grow(512)
	for i, c := range j {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(c.name)
		b.WriteByte('=')
		b.WriteString(c.value)
	}
	return b.String()
}

// An answer is what a page said. Its body is valid until the next request of
// the same caller.
type answer struct {
	status int
	body   []byte
	set    []string // Set-Cookie headers
}

// A caller asks a site's pages, one after another, by whatever way.
type caller interface {
	ask(method, path, cookies string) (answer, error)
}

// caller returns one that calls the handler in this process.
func (s *site) caller() caller {
	if s.fast != nil {
		return newFastCaller(s.fast)
	}
	return newHandlerCaller(s.handler)
}

// A handlerCaller calls an http.Handler. The request is made once and copied for
// each call, as a library may keep something in the one that it gets.
type handlerCaller struct {
	handler http.Handler
	w       sink
	request *http.Request
	cookies []string // the value of its header
}

func newHandlerCaller(h http.Handler) *handlerCaller {
	r := &http.Request{
		URL: new(url.URL), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"X-Forwarded-Proto": {"https"}, "User-Agent": {"bench"}},
		Host:   "bench.example", RemoteAddr: "127.0.0.1:1", Body: http.NoBody,
	}
	return &handlerCaller{h, sink{header: make(http.Header)}, r.WithContext(context.Background()), make([]string, 1)}
}

func (c *handlerCaller) ask(method, path, cookies string) (answer, error) {
	c.request.Method, c.request.URL.Path, c.cookies[0] = method, path, cookies
	if cookies == "" {
		delete(c.request.Header, "Cookie")
	} else {
		c.request.Header["Cookie"] = c.cookies
	}
	r := new(http.Request)
	*r = *c.request
	clear(c.w.header)
	c.w.status, c.w.body = 0, c.w.body[:0]
	c.handler.ServeHTTP(&c.w, r)
	return answer{c.w.status, c.w.body, c.w.header["Set-Cookie"]}, nil
}

// A sink is a ResponseWriter that keeps the answer.
type sink struct {
	header http.Header
	status int
	body   []byte
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
}

func (s *sink) Write(b []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	s.body = append(s.body, b...)
	return len(b), nil
}

// A fastCaller calls a handler of fasthttp, which fiber is built on.
type fastCaller struct {
	handler fasthttp.RequestHandler
	ctx     fasthttp.RequestCtx
	request fasthttp.Request
}

func newFastCaller(h fasthttp.RequestHandler) *fastCaller {
	c := &fastCaller{handler: h}
	c.request.Header.SetHost("bench.example")
	c.request.Header.Set("X-Forwarded-Proto", "https")
	return c
}

var anyAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

func (c *fastCaller) ask(method, path, cookies string) (answer, error) {
	c.request.Header.SetMethod(method)
	c.request.SetRequestURI(path)
	c.request.Header.DelAllCookies()
	if cookies != "" {
		c.request.Header.Set("Cookie", cookies)
	}
	c.ctx.ResetUserValues()
	c.ctx.Response.Reset()
	c.ctx.Init(&c.request, anyAddr, nil)
	c.handler(&c.ctx)
	a := answer{status: c.ctx.Response.StatusCode(), body: c.ctx.Response.Body()}
	for _, v := range c.ctx.Response.Header.Cookies() {
		a.set = append(a.set, string(v))
	}
	return a, nil
}

// A visitor is somebody with a browser.
type visitor struct {
	user   string
	jar    jar
	own    string // the jar as a header
	forged string
	paths  map[string]string // of each page
}

// arrive logs a new visitor in.
func arrive(c caller, s *site, user string) (*visitor, error) {
	v := &visitor{user: user, paths: make(map[string]string)}
	for _, p := range pages {
		v.paths[p.name] = p.url(user)
	}
	// Once as a guest, as a login by somebody who has a session is what is
	// measured later.
	if err := v.visit(c, pageNamed("login")); err != nil {
		return nil, fmt.Errorf("logging %s in: %w", user, err)
	}
	if s != nil && s.forge != nil {
		v.forged = s.forge(v.own)
	}
	return v, nil
}

// visit asks for a page, takes the cookies, and complains of a wrong answer.
func (v *visitor) visit(c caller, p page) error {
	cookies := v.own
	switch p.cookies {
	case none:
		cookies = ""
	case forged:
		cookies = v.forged
	}
	a, err := c.ask(p.method, v.paths[p.name], cookies)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK || !bytes.HasPrefix(a.body, []byte(p.says)) {
		return fmt.Errorf("%s %s was answered with %d %q: want 200 %q", p.method, v.paths[p.name], a.status, a.body, p.says)
	}
	if p.cookies == own && len(a.set) > 0 {
		v.take(a.set)
	}
	return nil
}

func (v *visitor) take(set []string) {
	for _, line := range set {
		v.jar.set(line)
	}
	v.own = v.jar.header()
}
