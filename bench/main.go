// Command bench measures roam beside other session libraries for Go, on the
// same site, and beside what their drivers can do at best. It writes
// docs/performance.md and its plots:
//
//	go run ./bench            about a quarter of an hour; "make bench"
//	go run ./bench -quick     about three minutes; "make bench-quick"
//	go run ./bench -compare bench.json   and says how far two runs differ
//
// It is a module of its own because it needs every library that it measures,
// and it is never released.
//
// # Start here
//
// pages.go says what is measured: kinds of pages, by what they need of the
// session. sites.go lists who is measured; each library has a file in which
// its site is written as its own documentation says. rounds.go says how: each
// site is a process of its own (child.go), and in each round all of them run
// for a moment, one after another, so that a busy machine hits all alike.
// correctness.go runs what a speed says nothing about.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	if name := os.Getenv(envSite); name != "" {
		exit(child(context.Background(), name))
	}
	quick := flag.Bool("quick", false, "three minutes: fewer and shorter rounds, whose ratios are rougher")
	out := flag.String("out", "docs", "`FOLDER` for performance.md and its plots")
	save := flag.String("json", "", "`FILE` for the measurements, for -compare")
	from := flag.String("from", "", "`FILE` of an earlier run to write the tables of again, instead of measuring")
	compare := flag.String("compare", "", "`FILE` of an earlier run; says how far the ratios of this one are from it")
	part := flag.String("part", "", "`NAME` of the only part to run: "+partNames()+"; nothing is written to the folder then")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, options{*quick, *out, *save, *from, *compare, *part}))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type options struct {
	quick                          bool
	out, save, from, compare, part string
}

func run(ctx context.Context, o options) (err error) {
	var before, got *results
	if o.compare != "" {
		if before, err = load(o.compare); err != nil {
			return err
		}
	}
	if info, err := os.Stat(o.out); o.part == "" && (err != nil || !info.IsDir()) {
		return fmt.Errorf("there is no folder %s; start bench in the root of the repository, or name one with -out", o.out)
	}
	if o.from != "" {
		got, err = load(o.from)
	} else {
		got, err = measure(ctx, o.quick, o.part)
	}
	if err != nil {
		return err
	}
	text := got.markdown()
	fmt.Print(text)
	if o.save != "" {
		data, err := json.MarshalIndent(got, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.save, data, 0o644); err != nil {
			return err
		}
	}
	if o.part == "" {
		files := got.plots()
		files["performance.md"] = text
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(o.out, name), []byte(content), 0o644); err != nil {
				return err
			}
		}
	}
	if before != nil {
		return agree(before, got)
	}
	return nil
}

// load reads what -json has saved.
func load(path string) (*results, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(results)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s is no result of bench: %w", path, err)
	}
	return r, nil
}

// errStopped says that somebody pressed Ctrl-C.
var errStopped = errors.New("stopped")
