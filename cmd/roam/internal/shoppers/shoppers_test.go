package shoppers

import (
	"context"
	"testing"
)

// faults are the counts that must be zero at a site that loses nothing.
func faults(r *Result) map[string]int {
	all := map[string]int{
		"failed_get": r.FailedGet, "failed_post": r.FailedPost, "logged_out": r.LoggedOut,
		"cart_items_lost": r.CartItemsLost, "acked_writes_lost": r.AckedWritesLost,
		"served_after_end": r.ServedAfterEnd, "written_after_end": r.WrittenAfterEnd,
		"cart_items_twice": r.CartItemsTwice, "wrong_user": r.WrongUser, "wrong_answers": r.WrongAnswers,
		"unaudited": r.Unaudited, "cart_items_unsure": r.CartItemsUnsure,
	}
	for k, n := range all {
		if n == 0 {
			delete(all, k)
		}
	}
	return all
}

func TestARightSiteLosesNothing(t *testing.T) {
	for _, leave := range []bool{false, true} {
		opts := new(stall).start(t)
		opts.Leave = leave
		r, err := Run(context.Background(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := faults(r); len(got) > 0 {
			t.Errorf("leave %v: %v\n%q", leave, got, r.Samples)
		}
		t.Logf("leave %v: %+v", leave, *r)
	}
}

func TestEveryFaultIsSeen(t *testing.T) {
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
		"a lost order":                  {site: &stall{loseOrders: 3}, want: []string{"acked_writes_lost"}},
		"an order that changes":         {site: &stall{changeOrder: 3}, want: []string{"acked_writes_lost"}},
		"somebody else's page":          {site: &stall{stranger: 50}, want: []string{"wrong_user"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := c.site.start(t)
			opts.Leave = c.leave
			r, err := Run(context.Background(), opts)
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
