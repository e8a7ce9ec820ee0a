package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/roam-web/roam"
)

// An interrupted store loses the answers of its next writes, and others write
// before the manager can look what became of them.
type interrupted struct {
	roam.Store
	times     int    // how many writes are lost; at least one
	lands     bool   // whether they arrive
	late      bool   // whether the first arrives when the next is sent
	twice     bool   // whether the first is sent twice on the way, and the second one's answer comes back
	refused   bool   // whether the one after them is refused
	deaf      bool   // whether the Load after them fails too
	meanwhile func() // runs once, after the first of them

	arrive func()
}

func (s *interrupted) lose(write func(context.Context, roam.Record) (roam.Record, error), ctx context.Context, rec roam.Record) (roam.Record, error) {
	if s.arrive != nil {
		s.arrive()
		s.arrive = nil
	}
	if s.times == 0 && s.refused {
		s.refused = false
		return roam.Record{}, roam.ErrUnavailable
	}
	if s.times == 0 {
		return write(ctx, rec)
	}
	s.times--
	if s.twice {
		write(ctx, rec)
		if s.meanwhile != nil {
			s.meanwhile()
		}
		return write(ctx, rec)
	}
	if s.lands {
		write(ctx, rec)
	}
	if s.late {
		s.late, s.arrive = false, func() { write(ctx, rec) }
	}
	if s.meanwhile != nil {
		s.meanwhile()
		s.meanwhile = nil
	}
	return roam.Record{}, errLost
}

func (s *interrupted) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	return s.lose(s.Store.Insert, ctx, rec)
}

func (s *interrupted) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	return s.lose(s.Store.Update, ctx, rec)
}

func (s *interrupted) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	if s.deaf && s.times == 0 {
		s.deaf = false
		return roam.Record{}, roam.ErrUnavailable
	}
	return s.Store.Load(ctx, id, want)
}

// settle runs one update whose answer is lost, and checks what becomes of it:
// the error, how often fn ran, and the session's items afterwards.
func settle(name string, in interrupted, others int, why roam.Reason, wantErr error, wantRuns int, want ...string) law {
	return law{"LostAnswers/" + name, func(t *tester) {
		honest := t.manager(t.store, nil)
		tok := t.parse(t.start(honest, "start").Token)
		in := in
		in.Store = t.store
		in.times = max(in.times, 1)
		in.meanwhile = func() {
			for i := range others {
				if _, err := honest.Update(t.Context(), tok, add(fmt.Sprint("other ", i+1))); err != nil {
					t.Errorf("another's update: %v", err)
				}
			}
			if why != "" {
				t.end(tok.ID(), why)
			}
		}
		runs := 0
		s, err := t.manager(&in, nil).Update(t.Context(), t.handy(honest, tok), func(c *cart) error {
			runs++
			return add("mine")(c)
		})
		if !errors.Is(err, wantErr) {
			t.Errorf("Update: error %v, want %v", err, wantErr)
		}
		if errors.Is(wantErr, roam.ErrUnknown) && !errors.Is(err, roam.ErrUnavailable) {
			t.Errorf("Update: error %v, want one that is also an ErrUnavailable", err)
		}
		if runs != wantRuns {
			t.Errorf("fn ran %d times, want %d", runs, wantRuns)
		}
		if err == nil && !slices.Contains(s.Data.Items, "mine") {
			t.Errorf("Update returned a session with %q, without its own item", s.Data.Items)
		}
		if why != "" {
			if rec := t.load(tok.ID()); rec.Why != why || rec.Data != nil {
				t.Errorf("the session that ended meanwhile has Why %q and data %q", rec.Why, rec.Data)
			}
			return
		}
		got, err := honest.Get(t.Context(), tok)
		if err != nil || !slices.Equal(got.Data.Items, want) {
			t.Errorf("afterwards the session has %q, error %v, want %q", got.Data.Items, err, want)
		}
	}}
}

// items returns the names that settle gives the others' updates.
func items(before []string, from, to int, after ...string) []string {
	for i := from; i <= to; i++ {
		before = append(before, fmt.Sprint("other ", i))
	}
	return append(before, after...)
}

var lostAnswerLaws = slices.Concat([]law{
	// Our id is among the record's last writes: it landed.
	settle("OwnWriteIsFound", interrupted{lands: true}, 0, "", nil, 1, "start", "mine"),
	settle("OwnWriteIsFoundBehindOthers", interrupted{lands: true}, 3, "", nil, 1, items([]string{"start", "mine"}, 1, 3)...),
	settle("OwnWriteIsFoundAtTheEndOfTheRing", interrupted{lands: true}, 7, "", nil, 1, items([]string{"start", "mine"}, 1, 7)...),
	settle("OwnWriteIsFoundInATombstone", interrupted{lands: true}, 0, roam.LoggedOut, nil, 1),

	// The version has not moved: it did not land, and is sent again.
	settle("UnmovedIsSentAgain", interrupted{}, 0, "", nil, 1, "start", "mine"),

	// It arrives while it is sent again, so that the second one conflicts.
	settle("ALateArrivalIsFound", interrupted{late: true}, 0, "", nil, 1, "start", "mine"),

	// A driver that lost its connection sends it again by itself.
	settle("AConflictWithOneselfIsNone", interrupted{twice: true}, 0, "", nil, 1, "start", "mine"),
	settle("AConflictWithOneselfBehindOthersIsNone", interrupted{twice: true}, 7, "", nil, 1, items([]string{"start", "mine"}, 1, 7)...),

	// The store refuses to take it again. That says nothing of the first.
	settle("ARefusalAfterwardsIsNotBelieved", interrupted{refused: true}, 0, "", nil, 1, "start", "mine"),
	settle("ARefusalBehindALateArrivalIsNotBelieved", interrupted{late: true, refused: true}, 0, "", nil, 1, "start", "mine"),

	// The version moved by no more than the ids tell: others were faster.
	settle("MovedByOneIsAConflict", interrupted{}, 1, "", nil, 2, "start", "other 1", "mine"),
	settle("MovedWithinTheRingIsAConflict", interrupted{}, 8, "", nil, 2, items([]string{"start"}, 1, 8, "mine")...),
	settle("EndedMeanwhileIsEnded", interrupted{}, 0, roam.Revoked, roam.ErrEnded, 1),

	// Otherwise nobody can tell, and fn must not run again: in one of these
	// the write landed, in the other it did not.
	settle("MovedBeyondTheRingIsUnknown", interrupted{}, 9, "", roam.ErrUnknown, 1, items([]string{"start"}, 1, 9)...),
	settle("LandedBeyondTheRingIsUnknown", interrupted{lands: true}, 8, "", roam.ErrUnknown, 1, items([]string{"start", "mine"}, 1, 8)...),

	// The store cannot be asked.
	settle("UnansweredIsUnknown", interrupted{deaf: true}, 0, "", roam.ErrUnknown, 1, "start"),
	settle("UnansweredThoughLandedIsUnknown", interrupted{deaf: true, lands: true}, 0, "", roam.ErrUnknown, 1, "start", "mine"),
	settle("NeverArrivingIsUnknown", interrupted{times: 100}, 0, "", roam.ErrUnknown, 1, "start"),
}, []law{
	{"LostAnswers/AStartIsSettled", func(t *tester) {
		for _, lands := range []bool{true, false} {
			s := t.start(t.manager(&interrupted{Store: t.store, times: 1, lands: lands}, nil), "x")
			if got, err := t.manager(t.store, nil).Get(t.Context(), t.parse(s.Token)); err != nil || !slices.Equal(got.Data.Items, []string{"x"}) {
				t.Errorf("landed %v: started session has %q, error %v", lands, got.Data.Items, err)
			}
		}
		if n := len(t.all()); n != 2 {
			t.Errorf("%d records of 2 sessions", n)
		}
	}},

	{"LostAnswers/ALoginIsSettled", func(t *tester) {
		honest := t.manager(t.store, nil)
		for _, lands := range []bool{true, false} {
			for others := range 3 {
				guest := t.start(honest, "x")
				in := &interrupted{Store: t.store, times: 1, lands: lands}
				in.meanwhile = func() {
					for range others { // which are refused after a login that landed
						honest.Update(t.Context(), t.parse(guest.Token), add("y"))
					}
				}
				runs := 0
				s, err := t.manager(in, nil).Login(t.Context(), t.parse(guest.Token), roam.Login{User: "ann"}, func(*cart) error { runs++; return nil })
				if err != nil {
					t.Errorf("landed %v, %d others: Login: %v", lands, others, err)
					continue
				}
				if lands && runs != 1 {
					t.Errorf("the login landed, and its function ran %d times, want once", runs)
				}
				if got, err := honest.Get(t.Context(), t.parse(s.Token)); err != nil || got.User != "ann" || got.ID != guest.ID {
					t.Errorf("landed %v, %d others: the new secret gives user %q, error %v", lands, others, got.User, err)
				}
				_, err = honest.Get(t.Context(), t.parse(guest.Token))
				t.ended("the old secret", err, roam.Rotated)
			}
		}
	}},

	// Whatever the network does: what was answered with success is in the
	// data, what was refused is not, what is unknown is there at most once.
	{"LostAnswers/NothingIsLostOrDoneTwice", func(t *tester) {
		for round := range t.rounds(4) {
			t.appendThroughFaults(uint64(round))
		}
	}},

	{"LostAnswers/AnAnsweredLogoutIsFinal", func(t *tester) {
		r := rand.New(rand.NewPCG(3, 3))
		answered := 0
		honest := t.manager(t.store, nil)
		for range t.rounds(100) {
			s := t.start(honest, "x")
			tok := t.parse(s.Token)
			net := &Faulty{Store: t.store, Faults: Faults{Seed: r.Uint64(), Refused: .05, LostRequest: .1, LostAnswer: .1, Late: .2, Repeated: .2, Cancelled: .05}}
			m := t.manager(net, nil)
			var out error
			each(4, func(i int) {
				if i == 0 {
					out = m.Logout(t.Context(), tok)
					return
				}
				for k := range 3 {
					m.Update(t.Context(), []roam.Token{tok, s.Token}[k%2], add("y"))
				}
			})
			net.Heal() // and what was late arrives after all
			if out != nil {
				continue
			}
			answered++
			_, err := honest.Get(t.Context(), tok)
			t.ended("a session whose logout was answered", err, roam.LoggedOut)
		}
		t.Logf("%d logouts answered", answered)
		if answered == 0 {
			t.Errorf("no logout was answered: this round proved nothing")
		}
	}},
})

// appendThroughFaults lets workers on three servers append to sessions through
// bad networks, and compares what they were told with what the sessions have.
func (t *tester) appendThroughFaults(seed uint64) {
	t.Helper()
	honest := t.manager(t.store, nil)
	var toks []roam.Token
	for range 3 {
		toks = append(toks, t.parse(t.start(honest, "start").Token))
	}
	var nets []*Faulty
	var managers []*roam.Manager[cart]
	for i := range uint64(3) {
		net := &Faulty{Store: t.store, Faults: Faults{Seed: seed*3 + i,
			Refused: .03, LostRequest: .06, LostAnswer: .06, Late: .06, Repeated: .06, Cancelled: .03}}
		nets, managers = append(nets, net), append(managers, t.manager(net, nil))
	}
	var mu sync.Mutex
	told := make(map[string]error)
	each(6, func(i int) {
		for k := range 20 {
			item := fmt.Sprint(i, "-", k)
			_, err := managers[i%3].Update(t.Context(), toks[k%3], add(item))
			mu.Lock()
			told[item] = err
			mu.Unlock()
		}
	})
	for _, net := range nets {
		net.Heal()
	}
	count := make(map[string]int)
	for _, tok := range toks {
		s, err := honest.Get(t.Context(), tok)
		if err != nil {
			t.Fatalf("Get when all is well again: %v", err)
		}
		for _, item := range s.Data.Items {
			count[item]++
		}
	}
	done, unknown, refused := 0, 0, 0
	for item, err := range told {
		n := count[item]
		switch {
		case err == nil:
			done++
			if n != 1 {
				t.Errorf("an update that returned nil is in the data %d times", n)
			}
		case errors.Is(err, roam.ErrUnknown):
			unknown++
			if n > 1 {
				t.Errorf("an update of unknown outcome is in the data %d times", n)
			}
		case errors.Is(err, roam.ErrUnavailable), errors.Is(err, roam.ErrConflict):
			refused++
			if n != 0 {
				t.Errorf("an update that returned %v is in the data %d times", err, n)
			}
		default:
			t.Errorf("Update: %v", err)
		}
	}
	t.Logf("of %d updates %d done, %d unknown, %d refused", len(told), done, unknown, refused)
}
