package farm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
)

// A Client operates a farm that another process runs. Its methods are those of
// [Farm], and wait for the farm as long as ctx allows.
type Client struct {
	http http.Client
}

// Dial connects to the farm whose data folder is dir. The error is an
// [ErrNotRunning] if there is none.
func Dial(ctx context.Context, dir string) (*Client, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	path, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	c := &Client{}
	c.http.Transport = &http.Transport{
		DisableKeepAlives: true, // no goroutine stays behind, and Close has nothing to wait for
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	if _, err := c.Info(ctx); err != nil {
		var dial *net.OpError
		if errors.As(err, &dial) && dial.Op == "dial" && !errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("the farm in %s is %w", dir, ErrNotRunning)
		}
		return nil, fmt.Errorf("the farm in %s: %w", dir, err)
	}
	return c, nil
}

// Info returns what the farm is, and the status of its servers.
func (c *Client) Info(ctx context.Context) (info Info, err error) {
	err = c.call(ctx, http.MethodGet, "/", &info)
	return info, err
}

// Store returns the URL of the farm's store as it was given, with its password.
func (c *Client) Store(ctx context.Context) (url string, err error) {
	err = c.call(ctx, http.MethodGet, "/store", &url)
	return url, err
}

// Drain is [Farm.Drain].
func (c *Client) Drain(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/servers/"+url.PathEscape(name)+"/drain", nil)
}

// Undrain is [Farm.Undrain].
func (c *Client) Undrain(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/servers/"+url.PathEscape(name)+"/undrain", nil)
}

// StartServer is [Farm.StartServer].
func (c *Client) StartServer(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/servers/"+url.PathEscape(name)+"/start", nil)
}

// Kill is [Farm.Kill].
func (c *Client) Kill(ctx context.Context, name string) (inFlightUnsafe int, err error) {
	var k killed
	err = c.call(ctx, http.MethodPost, "/servers/"+url.PathEscape(name)+"/kill", &k)
	return k.InFlightUnsafe, err
}

// Roll is [Farm.Roll]. A roll whose client goes away completes the server that
// it is at, and stops.
func (c *Client) Roll(ctx context.Context, each func(step string)) error {
	res, err := c.send(ctx, http.MethodPost, "/roll")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for lines := json.NewDecoder(res.Body); ; {
		var s step
		if err := lines.Decode(&s); err != nil {
			return lost(ctx, err)
		}
		if s.Step == "" {
			return s.err()
		}
		if each != nil {
			each(s.Step)
		}
	}
}

func (c *Client) call(ctx context.Context, method, path string, into any) error {
	res, err := c.send(ctx, method, path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return lost(ctx, err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// send returns the answer if it is not an error's.
func (c *Client) send(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://farm"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, lost(ctx, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var f fault
	if err := json.NewDecoder(res.Body).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("the farm answered %q to %s %s: is it of another version?", res.Status, method, path)
	}
	return nil, f.err()
}

// lost explains an answer that did not come.
func lost(ctx context.Context, err error) error {
	var dial *net.OpError
	var u *url.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &dial) && dial.Op == "dial":
		return dial
	case errors.As(err, &u):
		err = u.Err
	}
	return fmt.Errorf("the farm went away before it had answered: %w", err)
}
