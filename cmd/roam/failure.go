package main

import (
	"fmt"
	"strings"
)

// A failure is an error that tells the user what to do next. It is printed as
//
//	error: there is no command "stauts"
//	hint: did you mean "roam status"?
type failure struct {
	error
	hint  string
	usage bool // the command was asked wrongly; exit status 2
}

func (f *failure) Unwrap() error { return f.error }

// hinted gives err a hint.
func hinted(err error, format string, args ...any) error {
	return &failure{error: err, hint: fmt.Sprintf(format, args...)}
}

// misuse is for commands that were asked wrongly. It takes the hint first, so
// that none is forgotten, and returns what takes the message:
//
//	return misuse("want 1 to 20")("--servers is %d", n)
func misuse(hint string, args ...any) func(format string, args ...any) error {
	hint = fmt.Sprintf(hint, args...)
	return func(format string, args ...any) error {
		return &failure{error: fmt.Errorf(format, args...), hint: hint, usage: true}
	}
}

// nearest returns the candidate that s is most likely a misspelling of, or "".
// Candidates are in lower case.
func nearest(s string, candidates []string) string {
	s = strings.ToLower(s)
	best, at := "", max(1, len(s)/3)+1
	for _, c := range candidates {
		if d := distance(s, c); d < at {
			best, at = c, d
		}
	}
	return best
}

// distance counts the letters to insert, drop, replace, or swap with their
// neighbour that make b out of a (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			same := 1
			if a[i-1] == b[j-1] {
				same = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+same)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
