package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The kernel's count of segments is the count of statements, for every driver.
func TestAStatementIsOneTrip(t *testing.T) {
	s := open(t)
	for _, name := range []string{"raw PostgreSQL", "raw Redis", "scs PostgreSQL", "scs Redis", "roam PostgreSQL"} {
		c, err := candidateNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		x := s.site(t, c)
		call := x.caller()
		v, err := arrive(call, x, "u1")
		if err != nil {
			t.Fatal(err)
		}
		cold := pageNamed("cold")
		if err := v.visit(call, cold); err != nil { // connects and prepares
			t.Fatal(err)
		}
		w := &wire{port: portOf(s.env(c, nil).Store), seen: make(map[uint64]uint32)}
		before := w.sent()
		const n = 200
		for range n {
			if err := v.visit(call, cold); err != nil {
				t.Fatal(err)
			}
		}
		// roam reads its log beside the requests, and sites of the same store in
		// this process share the count.
		if got := w.sent() - before; got < n || got > n+n/10 {
			t.Errorf("%s: %d trips for %d pages that ask the store once", name, got, n)
		}
	}
}

func TestCPUOfAServerCountsItsChildren(t *testing.T) {
	s := open(t)
	for _, store := range []string{"PostgreSQL", "Redis"} {
		f := s.families[store]
		if stat := procStat(int(f)); len(stat) < 18 || !strings.Contains(procName(int(f)), map[string]string{"PostgreSQL": "postgres", "Redis": "redis"}[store]) {
			t.Errorf("%s is said to be the process %d, which is %q", store, f, procName(int(f)))
		}
	}
	before := s.families["PostgreSQL"].cpu()
	if _, err := s.postgres.Primary.Query(t.Context(), "SELECT count(*) FROM generate_series(1, 300000)"); err != nil {
		t.Fatal(err)
	}
	if got := s.families["PostgreSQL"].cpu() - before; got <= 0 {
		t.Errorf("a query of 300 thousand rows took PostgreSQL %v", got)
	}
}

func procName(pid int) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return name
}
