package shoppers

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"testing"
	"time"
)

// outage darkens the stall for a while, in the middle of the load.
func (s *stall) outage(opts *Options, o Outage) {
	opts.Duration = 2500 * time.Millisecond
	set := func(dark bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dark = dark
	}
	opts.During = func(ctx context.Context, stage *Stage) error {
		time.Sleep(500 * time.Millisecond)
		stage.Trouble(o)
		set(true)
		stage.Dark()
		time.Sleep(700 * time.Millisecond)
		stage.Light()
		if s.amnesia {
			s.mu.Lock()
			for key, v := range s.sessions {
				if v.user != "" {
					delete(s.sessions, key)
				}
			}
			s.mu.Unlock()
		}
		set(false)
		stage.Over()
		return nil
	}
}

func TestAnAnnouncedOutageIsNoLoss(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]*stall{
		"nothing is done": {},
		"who can tell":    {late: true},
	} {
		for _, leave := range []bool{false, true} {
			opts := site.start(t)
			opts.Leave = leave
			site.outage(&opts, Outage{})
			r, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := faults(r); len(got) > 0 {
				t.Errorf("%s, leave %v: %v\n%q", name, leave, got, r.Samples)
			}
			o := r.Trouble
			if o == nil || o.UnavailableGet == 0 || o.UnavailablePost == 0 || o.FirstSuccess < 0 || o.RateBefore == 0 || o.RateAfter == 0 || o.Lossy {
				t.Errorf("%s, leave %v: the outage is told as %+v", name, leave, o)
			}
		}
	}
}

func TestEveryFaultOfAnOutageIsSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		site  *stall
		leave bool
		lossy bool
		want  []string
	}{
		"no word when to come back":   {site: &stall{mute: true}, want: []string{"failed_get", "failed_post"}},
		"public pages are gone too":   {site: &stall{publicToo: true}, want: []string{"public_failed", "failed_get"}},
		"the cookie is deleted":       {site: &stall{clears: true}, want: []string{"cookies_cleared"}},
		"a logout is claimed":         {site: &stall{claims: true}, leave: true, want: []string{"logouts_claimed", "cookies_cleared", "served_after_end"}},
		"a change is denied and made": {site: &stall{lies: true}, want: []string{"cart_items_twice"}},
		"logins are forgotten":        {site: &stall{amnesia: true}, want: []string{"logged_out", "acked_writes_lost"}},
		"a logout in vain, with loss": {site: &stall{keepKeys: true}, leave: true, lossy: true, want: []string{"served_after_end", "logouts_claimed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := c.site.start(t)
			opts.Leave = c.leave
			c.site.outage(&opts, Outage{Lossy: c.lossy})
			r, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			got := faults(r)
			for _, want := range c.want {
				if got[want] == 0 {
					t.Errorf("%s is 0, want more; seen: %v", want, slices.Sorted(maps.Keys(got)))
				}
			}
		})
	}
}

// Whoever logged in before the risk began is owed the session all the same.
func TestWhatWasAtRiskIsALossAndNoLogout(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{false, true} {
		s := newShopper(&crowd{site: new(url.URL), tally: newTally(nil)}, "ann", 0, 1)
		acked := time.Now()
		if !before {
			time.Sleep(time.Millisecond)
		}
		s.c.trouble.begin(Outage{Lossy: true})
		if !before {
			acked = time.Now().Add(time.Millisecond)
		}
		s.user, s.since = "ann", acked
		s.recognised("", false, time.Now())
		r := s.c.tally.result(&s.c.trouble)
		if got, want := [2]int{r.LoggedOut, r.AckedWritesLost}, map[bool][2]int{true: {1, 0}, false: {0, 1}}[before]; got != want {
			t.Errorf("logged in before the risk: %v: logged out, lost: got %v, want %v", before, got, want)
		}
	}
}
