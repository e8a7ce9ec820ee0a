package sqlitestore

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/roam-web/roam"
)

func us(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func TestVariant(t *testing.T) {
	if os.Getenv("VARIANT") == "" {
		t.Skip()
	}
	s := open(t, nil)
	r := benchRecord(1, []byte(strings.Repeat("a", 200)))
	s.Insert(context.Background(), r)
	db, _ := sqlite3.Open(s.path)
	defer db.Close()
	if err := db.Exec("CREATE VIEW ev AS SELECT 123456789012 AS epoch"); err != nil {
		t.Fatal(err)
	}
	q := queries[loadRecord]
	best := map[string]time.Duration{}
	try := func(name string, f func()) {
		for k := 0; k < 100; k++ {
			f()
		}
		t0 := time.Now()
		for k := 0; k < 2000; k++ {
			f()
		}
		d := time.Since(t0) / 2000
		if b, ok := best[name]; !ok || d < b {
			best[name] = d
		}
	}
	raw := func(sql string, read func(*sqlite3.Stmt)) func() {
		st, _, err := db.Prepare(sql)
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			st.BindBlob(1, r.ID[:])
			if !st.Step() {
				t.Fatal(st.Err())
			}
			read(st)
			st.Reset()
		}
	}
	none := func(*sqlite3.Stmt) {}
	c, _ := s.openReader()
	f1 := raw(q, none)
	f2 := raw(strings.Replace(q, ", (SELECT epoch FROM epoch)", "", 1), none)
	f3 := raw(strings.Replace(q, "(SELECT epoch FROM epoch)", "(SELECT epoch FROM ev)", 1), none)
	f3b := raw(strings.Replace(q, "(SELECT epoch FROM epoch)", "123456789012", 1), none)
	f4 := raw("SELECT version, data FROM session WHERE id=?", func(st *sqlite3.Stmt) { st.ColumnInt64(0); st.ColumnBlob(1, nil) })
	cols := make([]any, 18)
	f5 := raw(q, func(st *sqlite3.Stmt) { st.ColumnsRaw(cols...) })
	f6 := func() { s.Load(context.Background(), r.ID) }
	st, _ := c.stmt(loadRecord)
	f7 := raw(q, func(x *sqlite3.Stmt) { c.scan(&stmt{s: x}, 1) })
	_ = st
	cctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f8 := func() { s.Load(cctx, r.ID) }
	for i := 0; i < 300; i++ {
		try("1 full, no column read", f1)
		try("2 no epoch", f2)
		try("3 epoch view", f3)
		try("3b epoch const", f3b)
		try("4 raw version,data", f4)
		try("5 raw ColumnsRaw", f5)
		try("6 Load", f6)
		try("7 raw+scan", f7)
		try("8 Load cancelable ctx", f8)
	}
	for k, v := range best {
		fmt.Printf("%-30s %.2f\n", k, us(v))
	}
	for x := range db.Stmts() {
		defer x.Close()
	}
	c.close()
	_ = roam.Idle
}
