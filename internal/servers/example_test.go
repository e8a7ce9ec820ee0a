package servers_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/roam-web/roam/internal/servers"
)

// A failover that loses what the standby had not got.
func ExampleStartPostgres() {
	ctx := context.Background()
	pg, err := servers.StartPostgres(ctx, &servers.PostgresOptions{Standby: true})
	if errors.Is(err, servers.ErrMissing) {
		fmt.Println("skipped:", err)
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	defer pg.Stop()

	steps := []func() error{
		func() error { return pg.Primary.Exec(ctx, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)") },
		func() error { return pg.CatchUp(ctx) },
		func() error { return pg.Lag(ctx, true) },
		func() error { return pg.Primary.Exec(ctx, "INSERT INTO t VALUES (2)") }, // acknowledged
		pg.Primary.Kill,
		func() error { return pg.Standby.Promote(ctx) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			log.Fatal(err)
		}
	}
	rows, err := pg.Standby.Query(ctx, "SELECT a FROM t")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(rows) // 1
}

// A commit whose reply is lost.
func ExampleProxy_DropAnswers() {
	pg, err := servers.StartPostgres(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer pg.Stop()
	proxy, err := servers.StartProxy(pg.Primary.Addr())
	if err != nil {
		log.Fatal(err)
	}
	defer proxy.Stop()
	fmt.Println("connect to", pg.DSN(proxy.Addr()))

	proxy.DropAnswers() // requests get through
	proxy.Reset()       // and now their clients learn that something is wrong
	if err := proxy.Restore(); err != nil {
		log.Fatal(err)
	}
}
