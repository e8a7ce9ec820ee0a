package servers

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// redis starts a Redis that ends with the test.
func redis(t *testing.T, o *RedisOptions) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), o)
	if errors.Is(err, ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// tell sends commands, and QUIT, and returns all the answers in Redis's form.
func (r *Redis) tell(t *testing.T, commands ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	io.WriteString(c, strings.Join(append(commands, "QUIT"), "\r\n")+"\r\n")
	all, _ := io.ReadAll(c)
	return strings.ReplaceAll(string(all), "\r\n", " ")
}

func TestRedisBreaksLikeAnyServer(t *testing.T) {
	t.Parallel()
	r := redis(t, &RedisOptions{Settings: map[string]string{"appendonly": "yes", "appendfsync": "always"}})
	auth := "AUTH " + r.Password()
	if got, want := r.tell(t, auth, "SET a 1"), "+OK +OK +OK "; got != want {
		t.Fatalf("got %q, want %q\nlog:\n%s", got, want, r.Log())
	}
	do(t, r.Kill())
	if got := r.tell(t, auth); !strings.Contains(got, "refused") {
		t.Errorf("a killed server answered %q", got)
	}
	do(t, r.Start(t.Context()))
	if got, want := r.tell(t, auth, "GET a"), "+OK $1 1 +OK "; got != want {
		t.Errorf("after Kill and Start: %q, want %q, as it was told to keep what it acknowledges", got, want)
	}
	do(t, r.Freeze())
	answer := make(chan string, 1)
	go func() { answer <- r.tell(t, auth, "GET a") }()
	do(t, r.Thaw())
	if got, want := <-answer, "+OK $1 1 +OK "; got != want {
		t.Errorf("after Thaw: %q, want %q", got, want)
	}
	do(t, r.Restart(t.Context()))
}

func TestRedisAnswersNobodyWithoutThePassword(t *testing.T) {
	t.Parallel()
	r := redis(t, nil)
	if got := r.tell(t, "GET a"); !strings.HasPrefix(got, "-NOAUTH") {
		t.Errorf("without the password: %q", got)
	}
}

func TestRedisStopsAndRemovesItsFolder(t *testing.T) {
	t.Parallel()
	r := redis(t, nil)
	r.Stop()
	r.Stop()
	if got := r.tell(t); !strings.Contains(got, "refused") {
		t.Errorf("after Stop: %q", got)
	}
}

func TestRedisMissingSaysSo(t *testing.T) {
	t.Parallel()
	_, err := StartRedis(t.Context(), &RedisOptions{Bin: t.TempDir()})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("got %v, want ErrMissing and how to install it", err)
	}
}
