package servers

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
)

// access is who may log in to one PostgreSQL, and the client to do it with.
// Whoever has it has a pointer to it, so that no %+v of theirs prints it. The
// passwords are new each time: on a machine that others use too, a superuser
// without one would be a shell for everybody.
type access struct {
	owner string // password of roam, who owns the database roam and may do no more
	admin string // password of postgres, the superuser
	psql  string // program
}

func newAccess(psql string) *access {
	return &access{owner: rand.Text(), admin: rand.Text(), psql: psql}
}

func (a *access) url(user, password, hosts string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: hosts, Path: "/roam", RawQuery: "sslmode=disable"}
	return u.String()
}

// ask runs SQL as the superuser and returns the rows. It uses PostgreSQL's own
// client, which is there wherever the server is: this package needs no driver, and
// the stores that are tested with it choose theirs alone.
func (a *access) ask(ctx context.Context, addr, database, sql string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, a.psql, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
		"--set=ON_ERROR_STOP=1", "--host="+host, "--port="+port, "--username=postgres", "--dbname="+database)
	cmd.Env = append(environment(os.TempDir()), "PGPASSWORD="+a.admin, "PGSSLMODE=disable", "PGCLIENTENCODING=UTF8")
	cmd.Stdin = strings.NewReader(sql)
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if s := strings.TrimSpace(complaints.String()); s != "" {
			err = errors.New(s)
		}
		return "", err
	}
	return strings.TrimRight(out.String(), "\n"), nil
}
