package shoppers

import (
	"context"
	"errors"
	"testing"
	"time"
)

// faults are the counts that must be zero at a site that loses nothing.
func faults(r *Result) map[string]int {
	all := map[string]int{
		"failed_get": r.FailedGet, "failed_post": r.FailedPost, "logged_out": r.LoggedOut,
		"cart_items_lost": r.CartItemsLost, "acked_writes_lost": r.AckedWritesLost,
		"served_after_end": r.ServedAfterEnd, "written_after_end": r.WrittenAfterEnd,
		"cart_items_twice": r.CartItemsTwice, "wrong_user": r.WrongUser, "wrong_answers": r.WrongAnswers,
		"went_back": r.WentBack, "herd_lost": r.HerdLost,
		"unaudited": r.Unaudited, "cart_items_unsure": r.CartItemsUnsure,
		"public_failed": r.PublicFailed, "cookies_cleared": r.CookiesCleared, "logouts_claimed": r.LogoutsClaimed,
	}
	for k, n := range all {
		if n == 0 {
			delete(all, k)
		}
	}
	return all
}

func TestARightSiteLosesNothing(t *testing.T) {
	t.Parallel()
	for _, leave := range []bool{false, true} {
		opts := new(stall).start(t)
		opts.Leave = leave
		r, err := Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := faults(r); len(got) > 0 {
			t.Errorf("leave %v: %v\n%q", leave, got, r.Samples)
		}
		if r.MaxOverMean > 1.1 {
			t.Errorf("leave %v: the busiest server over the mean is %v, want at most 1.1: %v", leave, r.MaxOverMean, r.ServedBy)
		}
		did := map[string]int{"logins": r.Logins, "orders": r.Orders}
		if leave {
			did = map[string]int{"logins": r.Logins, "logouts": r.Logouts, "replays": r.Replays}
		}
		for what, n := range did {
			if n == 0 {
				t.Errorf("leave %v: there were no %s, so they were not tested", leave, what)
			}
		}
	}
}

func TestEveryFaultIsSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		site  *stall
		leave bool
		want  []string
	}{
		"a lost update":                 {site: &stall{loseUpdate: true}, want: []string{"cart_items_lost", "acked_writes_lost"}},
		"a forgotten login":             {site: &stall{forget: 97}, want: []string{"logged_out", "acked_writes_lost"}},
		"a forgotten cart":              {site: &stall{forgetCarts: 97}, want: []string{"cart_items_lost", "acked_writes_lost"}},
		"a logout in the browser alone": {site: &stall{keepKeys: true}, leave: true, want: []string{"served_after_end", "written_after_end"}},
		"a late write that revives":     {site: &stall{upsert: true}, leave: true, want: []string{"served_after_end", "written_after_end"}},
		"an add done twice":             {site: &stall{twice: 20}, want: []string{"cart_items_twice"}},
		"a GET without an answer":       {site: &stall{dropGets: 50}, want: []string{"failed_get"}},
		"a POST without an answer":      {site: &stall{dropPosts: 20}, want: []string{"failed_post"}},
		"a lost order":                  {site: &stall{loseOrders: 1}, want: []string{"acked_writes_lost"}},
		"an order that changes":         {site: &stall{changeOrder: 2}, want: []string{"acked_writes_lost"}},
		"somebody else's page":          {site: &stall{stranger: 50}, want: []string{"wrong_user"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := c.site.start(t)
			opts.Leave = c.leave
			r, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			got := faults(r)
			for _, w := range c.want {
				if got[w] == 0 {
					t.Errorf("%s is 0; got %v", w, got)
				}
			}
			t.Log(got)
		})
	}
}

func TestALoadThatOneServerCarriesIsSeen(t *testing.T) {
	t.Parallel()
	opts := (&stall{servers: func(n int) string {
		if n%8 == 0 {
			return "web2"
		}
		return "web1"
	}}).start(t)
	r, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	// Seven eighths of three servers' load; web3 got none and counts.
	if r.MaxOverMean < 2.5 || r.MaxOverMean > 2.75 {
		t.Errorf("the busiest server over the mean is %v, want about 2.6: %v", r.MaxOverMean, r.ServedBy)
	}
}

// A client that waits for one answer before it sends the next request would
// see a standstill once per tab. Here all who come in that time see it.
func TestAStandstillIsSeenByAllWhoComeInIt(t *testing.T) {
	t.Parallel()
	const still = 500 * time.Millisecond
	site := &stall{}
	opts := site.start(t)
	opts.Duration = time.Second
	opts.During = func(ctx context.Context, _ *Stage) error {
		site.mu.Lock()
		defer site.mu.Unlock()
		time.Sleep(still)
		return nil
	}
	u, err := opts.check()
	if err != nil {
		t.Fatal(err)
	}
	c := newCrowd(t.Context(), opts, u)
	defer c.close()
	if err := errors.Join(c.arrive(t.Context()), c.load(t.Context())); err != nil {
		t.Fatal(err)
	}
	slow, tabs := 0, 0
	for _, took := range c.tally.latencies {
		if took > still/4 {
			slow++
		}
	}
	for _, s := range c.people {
		tabs += len(s.tabs)
	}
	if due := int(float64(opts.Rate) * (still * 3 / 4).Seconds()); slow < due/2 || due/2 <= tabs {
		t.Errorf("%d requests were slow; %d were due in that time, and there are %d tabs", slow, due, tabs)
	}
}

// A mark is kept by the browser that got it last, which may be an older one.
func TestWhatTheCookiesDoNotProveIsNotAskedFor(t *testing.T) {
	t.Parallel()
	opts := (&stall{marks: true, obeys: 1}).start(t)
	opts.Parallel, opts.Leave = true, true
	r, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := faults(r); len(got) > 0 {
		t.Errorf("%v\n%q", got, r.Samples)
	}
	if r.Bursts == 0 || r.LateAnswers == 0 || r.Law3Checked == 0 {
		t.Errorf("%d bursts, %d late answers, %d carts checked: want some of each", r.Bursts, r.LateAnswers, r.Law3Checked)
	}
}

func TestTheFaultsOfParallelCallsAreSeen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		site *stall
		want string
	}{
		"an answer older than the mark":      {&stall{marks: true, goesBack: 3}, "went_back"},
		"a late answer that deletes the key": {&stall{marks: true, logsOut: true}, "logged_out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := c.site.start(t)
			opts.Parallel, opts.Leave = true, true
			r, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if got := faults(r); got[c.want] == 0 {
				t.Errorf("%s is 0 of %d carts; got %v; back %d", c.want, r.Law3Checked, got, c.site.n["back"])
			}
		})
	}
}

func TestIdleVisitorsAreMissed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		site *stall
		lost bool
	}{"kept": {&stall{marks: true}, false}, "forgotten": {&stall{marks: true}, true}} {
		opts := c.site.start(t)
		opts.During = func(ctx context.Context, stage *Stage) error {
			herd, err := stage.Gather(ctx, 50)
			if err != nil {
				return err
			}
			if c.lost {
				c.site.mu.Lock()
				for _, key := range herd.keys[:7] {
					token, _ := sessionCookies(key)
					delete(c.site.sessions, token)
				}
				c.site.mu.Unlock()
			}
			return herd.Count(ctx)
		}
		r, err := Run(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 7}[c.lost]; r.HerdLost != want || r.Herd != 50 {
			t.Errorf("%s: %d of %d lost, want %d of 50", name, r.HerdLost, r.Herd, want)
		}
	}
}

func TestTheRateIsKept(t *testing.T) {
	t.Parallel()
	opts := new(stall).start(t)
	r, err := Run(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	want := int(float64(opts.Rate) * opts.Duration.Seconds())
	if r.Requests < want || r.Requests > want*11/10 {
		t.Errorf("%d requests, want %d and hardly more", r.Requests, want)
	}
	n := 0
	for _, b := range r.Timeline {
		for _, k := range b.Served {
			n += k
		}
	}
	if n != r.Requests {
		t.Errorf("the timeline has %d of %d requests", n, r.Requests)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	opts := new(stall).start(t)
	opts.Leave = true
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	opts.During = func(ctx context.Context, _ *Stage) error {
		cancel(enough)
		<-ctx.Done()
		return nil
	}
	if _, err := Run(ctx, opts); !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

func TestWhatGoesWrongBesideTheLoadIsAnError(t *testing.T) {
	t.Parallel()
	opts := new(stall).start(t)
	wrong := errors.New("no such server")
	opts.During = func(context.Context, *Stage) error { return wrong }
	if _, err := Run(t.Context(), opts); !errors.Is(err, wrong) {
		t.Errorf("got %v, want %v", err, wrong)
	}
}

func TestRunRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"plain HTTP":  func(o *Options) { o.URL = "http://127.0.0.1:80" },
		"no port":     func(o *Options) { o.URL = "https://127.0.0.1" },
		"no rate":     func(o *Options) { o.Rate = 0 },
		"no time":     func(o *Options) { o.Duration = 0 },
		"nobody":      func(o *Options) { o.Accounts = nil },
		"no products": func(o *Options) { o.Products = nil },
	} {
		opts := new(stall).start(t)
		change(&opts)
		if _, err := Run(t.Context(), opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
