package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A flagSet is a command's flags and its manual. It differs from package flag
// in what a user sees: flags may stand after the arguments, help goes to the
// output that was asked for it, and a misspelt flag gets a suggestion.
type flagSet struct {
	*flag.FlagSet
	std    *stdio
	line   string // what follows "roam" in the usage
	manual string
}

func newFlags(std *stdio, line, manual string) *flagSet {
	name, _, _ := strings.Cut(line, " ")
	fs := &flagSet{flag.NewFlagSet(name, flag.ContinueOnError), std, line, strings.TrimSpace(manual)}
	fs.SetOutput(io.Discard) // its messages come back as errors
	fs.Usage = func() {}
	return fs
}

// parse returns the arguments that are not flags, one for each name in want;
// one in brackets may be missing, and is "" then.
func (fs *flagSet) parse(args []string, want ...string) ([]string, error) {
	help := fmt.Sprintf("\"%s help %s\" explains it", self(), fs.command())
	var got []string
	for len(args) > 0 {
		if err := fs.Parse(args); err == flag.ErrHelp {
			fs.print(fs.std.Out)
			return nil, err
		} else if err != nil {
			return nil, fs.explain(err, help)
		}
		used := args[:len(args)-fs.NArg()]
		args = fs.Args()
		if len(used) > 0 && used[len(used)-1] == "--" {
			got, args = append(got, args...), nil
		} else if len(args) > 0 {
			got, args = append(got, args[0]), args[1:]
		}
	}
	if len(got) > len(want) {
		return nil, misuse("%s", help)("unexpected argument %q", got[len(want)])
	}
	for i := len(got); i < len(want); i++ {
		if !strings.HasPrefix(want[i], "[") {
			return nil, misuse("usage: %s %s", self(), fs.line)("%s needs %s", fs.command(), want[i])
		}
		got = append(got, "")
	}
	return got, nil
}

// command is the words of the usage line before its first argument.
func (fs *flagSet) command() string {
	words := strings.Fields(fs.line)
	for i, w := range words {
		if strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" {
			return strings.Join(words[:i], " ")
		}
	}
	return fs.line
}

// explain rewrites the message of package flag, whose errors have no types.
func (fs *flagSet) explain(err error, help string) error {
	name, unknown := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return misuse("%s", help)("%s", strings.ReplaceAll(err.Error(), "flag -", "flag --"))
	}
	name = strings.TrimPrefix(name, "-")
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	if near := nearest(name, names); near != "" {
		help = fmt.Sprintf("did you mean --%s?", near)
	}
	return misuse("%s", help)("%s has no flag --%s", fs.command(), name)
}

// print writes the manual. In a flag's usage "`N`: how many", the name is its
// value's and not repeated.
func (fs *flagSet) print(w io.Writer) {
	fmt.Fprintf(w, "Usage: roam %s\n\n%s\n", fs.line, fs.manual)
	head := "\nFlags:\n"
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		usage = strings.TrimPrefix(usage, value+": ")
		left := "--" + f.Name
		if value != "" {
			left += " " + value
		}
		switch f.DefValue {
		case "", "false", "0", "0s":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(t, "%s  %s\t%s\n", head, left, usage)
		head = ""
	})
	t.Flush()
}

// given reports whether the user gave the flag.
func (fs *flagSet) given(name string) (given bool) {
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}
