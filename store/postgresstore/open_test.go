package postgresstore

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/internal/servers"
)

func TestInitCanBeCalledByAllAtOnce(t *testing.T) {
	t.Parallel()
	url := postgres(t).Primary.URL()
	opts := fresh(t)
	opts.Schema = fmt.Sprintf("s%d", tables.Add(1))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := Init(background, url, opts); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s := reopen(t, url, opts)
	rec := insert(t, s, record(1, "ada"))
	must(t, Init(background, url, opts))
	if got := must2(s.Load(background, rec.ID, roam.Want{})); got.Epoch != rec.Epoch {
		t.Errorf("got epoch %d after another Init, want %d", got.Epoch, rec.Epoch)
	}
}

func TestNamesAreQuoted(t *testing.T) {
	t.Parallel()
	opts := fresh(t)
	opts.Schema, opts.Table = `we"ird 'schema' {log}`, `Robert'); DROP TABLE "x"; --`
	s := open(t, opts)
	rec := insert(t, s, record(1, "ada"))
	must(t, s.End(background, rec.ID, roam.Revoked))
	must2(s.Prune(background, 0, 10))
	must2(s.Ends(background, ""))
	for _, bad := range []Options{{Table: strings.Repeat("x", 51)}, {Schema: "a\x00"}, {Table: "\xff"}} {
		_, err := Open(background, postgres(t).Primary.URL(), &bad)
		tells(t, err, "at most 50 bytes")
	}
}

func TestSchemaComesFromSearchPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"": "public", "shop": "shop", "Shop, public": "shop", `"Shop",x`: "Shop", `"$user", public`: "public", "$user": "public"} {
		n, err := (&Options{Table: "t"}).names(path)
		must(t, err)
		if path == `"$user", public` {
			want = "$user" // quoted it is a name like another
		}
		if n.schema != want {
			t.Errorf("search_path %q: got %q, want %q", path, n.schema, want)
		}
	}
	opts := fresh(t)
	s := openAt(t, postgres(t).Primary.URL()+"&search_path=other", opts)
	if got := sql(t, s, "SELECT '{session}'::regclass"); !strings.HasPrefix(got, "other.") {
		t.Errorf("got table %s, want it in other", got)
	}
}

// Whatever is wrong with a URL, the error says what to do and not the password.
func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	good := pg.Primary.URL()
	password := regexp.MustCompile(`roam:([^@]+)@`).FindStringSubmatch(good)[1]
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := ln.Addr().String()
	ln.Close()
	for name, test := range map[string]struct {
		url  string
		opts *Options
		says []string
	}{
		"wrong password":   {with(password, "s3cret"+password), nil, []string{"28P01", "check the user and the password"}},
		"unknown user":     {with("roam:", "nobody:"), nil, []string{"check the user and the password"}},
		"unknown database": {with("/roam?", "/shop?"), nil, []string{"3D000", "create the database first"}},
		"missing tables":   {good, &Options{Table: "nothing"}, []string{"postgresstore.Init", "roam schema postgres", `"nothing"`}},
		"not a URL":        {"postgres://roam:" + password + "@host:port/db", nil, []string{"postgres://user:password@host:5432/database"}},
		"stray characters": {"postgres://roam:pa/ss%zz" + password + "@h/db", nil, []string{"percent-encoded"}},
		"keywords":         {"host=localhost password='" + password + "' port=x", nil, []string{"cannot be read"}},
		"no pool":          {good + "&pool_max_conns=many", nil, []string{"pool_max_conns", "at least 1"}},
		"replicas":         {good, &Options{Replicas: "postgres://roam:" + password + "@host:port/db"}, []string{"Options.Replicas"}},
		"options":          {good, &Options{Timeout: -1}, []string{"Timeout"}},
	} {
		s, err := Open(background, test.url, test.opts)
		if err == nil {
			t.Errorf("%s: no error", name)
			s.Close()
			continue
		}
		tells(t, err, test.says...)
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), password) && !strings.Contains(fmt.Sprintf("%T", errors.Unwrap(err)), "PgError") {
			t.Errorf("%s: the error spells the password: %v", name, strings.ReplaceAll(err.Error(), password, "PASSWORD"))
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error spells the password", name)
		}
	}

	opts := &Options{Replicas: good}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, opts) + fmt.Sprintf(verb, *opts); strings.Contains(got, password) {
			t.Errorf("%s of Options spells the password", verb)
		}
	}

	// An outage is no error.
	s, err := Open(background, "postgres://roam:"+password+"@"+closed+"/roam", quick(t))
	must(t, err)
	defer s.Close()
	_, err = s.Load(background, roam.ID{}, roam.Want{})
	refusedBy(t, err, "refused", closed)
	if strings.Contains(err.Error()+fmt.Sprintf("%v %+v %#v", s, s, s), password) {
		t.Error("the error or the store spells the password")
	}
}

func TestServerCanStartBeforeTheDatabase(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{})
	opts := quick(t)
	must(t, Init(background, pg.DSN(), opts))
	must(t, pg.Primary.Kill())
	s := reopen(t, pg.DSN(), opts)
	fails(t, s)
	must(t, pg.Primary.Start(background))
	until(t, "the first success", func() bool { return works(s, 1) })
}

// Of two servers the first to answer may be the wrong one.
func TestTheNewestHistoryIsChosenHoweverLateItAnswers(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Standby: true})
	opts := fresh(t)
	s := openAt(t, pg.DSN(), opts)
	old := insert(t, s, record(1, "ada"))
	must(t, pg.CatchUp(background))
	must(t, pg.Standby.Promote(background))
	until(t, "the new primary is used", func() bool { p := s.primary.Load(); return p != nil && p.host == s.hosts[1] })
	proxy := need2(t)(servers.StartProxy(pg.Standby.Addr()))
	t.Cleanup(proxy.Stop)
	proxy.Slow(300 * time.Millisecond)
	other := reopen(t, pg.DSN(pg.Primary.Addr(), proxy.Addr()), opts)
	if rec := insert(t, other, record(2, "")); rec.Epoch <= old.Epoch {
		t.Errorf("got epoch %d, want that of the new primary, above %d", rec.Epoch, old.Epoch)
	}
	tells(t, s.Check(background), "stop it")
}

// The grants that Schema prints are enough, and none of them is too much.
func TestGrantsAreSufficientAndNecessary(t *testing.T) {
	t.Parallel()
	pg := postgres(t)
	opts := fresh(t)
	opts.Schema = fmt.Sprintf("grants%d", tables.Add(1))
	ddl, err := Schema(opts)
	must(t, err)
	owner := pg.Primary
	must(t, owner.Exec(background, ddl))
	role := fmt.Sprintf("shop%d", tables.Add(1))
	must(t, owner.Exec(background, "CREATE ROLE "+role+" LOGIN PASSWORD 'shop'"))
	url := regexp.MustCompile(`//roam:[^@]+@`).ReplaceAllString(owner.URL(), "//"+role+":shop@")
	var grants []string
	for line := range strings.Lines(ddl) {
		if g, ok := strings.CutPrefix(line, "-- GRANT "); ok {
			grants = append(grants, strings.ReplaceAll(strings.TrimSpace(g), "TO shop", "TO "+role))
		}
	}
	if len(grants) != 4 {
		t.Fatalf("got %d grants, want 4: %q", len(grants), grants)
	}
	for _, g := range grants {
		must(t, owner.Exec(background, "GRANT "+g))
	}
	s := reopen(t, url, opts)
	if err := useAll(s, pg); err != nil {
		t.Fatalf("with all grants: %v", err)
	}
	must(t, Init(background, url, opts)) // nothing to do
	tells(t, Init(background, url, fresh(t)), "42501", "owner")
	// Each single privilege is needed by something.
	for _, g := range grants {
		list, on, _ := strings.Cut(g, " ON ")
		on, _, _ = strings.Cut(on, " TO ")
		for privilege := range strings.SplitSeq(list, ", ") {
			must(t, owner.Exec(background, "REVOKE "+privilege+" ON "+on+" FROM "+role))
			again, err := Open(background, url, opts)
			if err == nil {
				err = useAll(again, pg)
				again.Close()
			}
			if err == nil {
				t.Errorf("without %s on %s everything works: it is granted for nothing", privilege, on)
			} else {
				tells(t, err, "42501", "roam schema postgres")
			}
			must(t, owner.Exec(background, "GRANT "+privilege+" ON "+on+" TO "+role))
		}
	}
}

// useAll does everything that a store can.
func useAll(s *Store, pg *servers.Postgres) error {
	rec, err := s.Insert(background, record(tablesID(), "ada"))
	if err == nil {
		rec.Proof[0]++
		rec, err = s.Update(background, rec)
	}
	if err == nil {
		err = s.Touch(background, []roam.Touch{{ID: rec.ID, At: time.Now().Add(time.Hour)}})
	}
	if err == nil {
		_, err = s.Load(background, rec.ID, roam.Want{Durable: true})
	}
	if err == nil {
		err = s.End(background, rec.ID, roam.Revoked)
	}
	if err == nil {
		_, err = s.Ends(background, "")
	}
	if err == nil {
		err = pg.Primary.Exec(background, s.names.in("UPDATE {meta} SET marked = marked - interval '1 hour'"))
	}
	if err == nil {
		_, err = s.Prune(background, 0, 1000)
	}
	if err == nil {
		_, err = s.Restored(background)
	}
	if err == nil { // as after a restore into another cluster
		epoch := s.primary.Load().epoch
		if err = pg.Primary.Exec(background, s.names.in("UPDATE {meta} SET system = system + 1")); err != nil {
			return err
		}
		for err == nil {
			rec, err = s.Load(background, rec.ID, roam.Want{})
			switch {
			case errors.Is(err, roam.ErrNotFound):
				err = nil
			case errors.Is(err, roam.ErrUnavailable) && !strings.Contains(err.Error(), "42501"):
				err = nil
			}
			if rec.Epoch > epoch {
				break
			}
		}
		if err != nil {
			pg.Primary.Exec(background, s.names.in("UPDATE {meta} SET system = system - 1"))
		}
	}
	return err
}

func tablesID() uint32 { return uint32(tables.Add(1)) }

func TestCheckFindsDangerousSettings(t *testing.T) {
	t.Parallel()
	pg := private(t, &servers.PostgresOptions{Settings: map[string]string{"synchronous_commit": "off", "autovacuum": "off", "full_page_writes": "off", "max_connections": "30"}})
	opts := fresh(t)
	opts.MaxConns = 64
	s := openAt(t, pg.DSN(), opts)
	tells(t, s.Check(background), "fsync", "full_page_writes", "synchronous_commit", "autovacuum", "MaxConns")
	must(t, pg.Primary.Exec(background, "ALTER ROLE roam SET synchronous_commit = on"))
	must(t, pg.Primary.Exec(background, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'roam'"))
	until(t, "the setting is in force", func() bool {
		err := s.Check(background)
		return err != nil && strings.Contains(err.Error(), "fsync") && !strings.Contains(err.Error(), "synchronous_commit")
	})
	must(t, pg.Primary.Exec(background, s.names.in("UPDATE {meta} SET schema_version = 200")))
	until(t, "the version is noticed", func() bool { return s.primary.Load() == nil })
	tells(t, s.Check(background), "newer", "200")
	_, err := Open(background, pg.DSN(), opts)
	tells(t, err, "newer", "200")
	tells(t, Init(background, pg.DSN(), opts), "newer", "200")
}

func TestCheckFindsNothingWrong(t *testing.T) {
	t.Parallel()
	pg, err := servers.StartPostgres(background, nil)
	pg = need(t, pg, err)
	t.Cleanup(pg.Stop)
	must(t, openAt(t, pg.DSN(), nil).Check(background))
}

func TestClosedStoreFailsEverything(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	insert(t, s, record(1, "ada"))
	must(t, s.Close())
	must(t, s.Close())
	_, err := s.Load(background, roam.ID{}, roam.Want{})
	refusedBy(t, err, "closed")
	_, err = s.Insert(background, record(2, ""))
	refusedBy(t, err, "closed")
	refusedBy(t, s.Check(background), "closed")
}
