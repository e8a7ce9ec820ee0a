// Package storetest is the law of [roam.Store]: what its comments say, as
// tests. Whoever writes a store gives the suite a way to open one:
//
//	func open(tb testing.TB) roam.Store {
//		s, err := mystore.Open(filepath.Join(tb.TempDir(), "sessions.db"), nil)
//		if err != nil {
//			tb.Fatal(err)
//		}
//		tb.Cleanup(func() { s.Close() })
//		return s
//	}
//
//	func TestLaw(t *testing.T)       { storetest.Run(t, open) }
//	func FuzzLaw(f *testing.F)       { storetest.Fuzz(f, open) }
//	func BenchmarkLaw(b *testing.B)  { storetest.Bench(b, open) }
//
// Every store that open returns must be empty, and apart from every other.
//
// # What Run checks
//
// Each law is one subtest, and its name is the law. The first word says where
// to look:
//
//	Load Insert Update Touch      one step at a time: what it must do, and
//	End EndUser List All Prune    above all what it must leave alone
//	Ends                          the log has every end, and nothing else
//	Answers Cancelled             what holds for all methods
//	Concurrent                    many goroutines on one record
//	Histories                     concurrent histories are linearizable, also
//	                              if requests and answers are lost
//	Random                        random steps have the answers of MemStore
//	Sessions                      the promises of [roam.Manager], kept by
//	                              several managers on the store
//	LostAnswers                   a write without an answer is settled
//
// Use go test -run TestLaw/Update to look at a few, -race to find more, and
// -short while you work: it plays fewer rounds of the random laws.
//
// A store that passes is one on which no update is lost and nothing that has
// ended comes back. What the suite cannot see is what a store does when its
// machine dies; that needs a test that kills it.
//
// # Wrappers
//
// [Faulty] is a store behind a bad network, [Skewed] a store seen from a web
// server whose clock is wrong, and [Counting] counts the calls, so that a test
// can say that there were none. They serve the suite, and tests of programs.
package storetest
