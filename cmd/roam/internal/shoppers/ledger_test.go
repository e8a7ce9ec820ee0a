package shoppers

import "testing"

func TestTheLedgerAcceptsWhatMayBe(t *testing.T) {
	for _, c := range []struct {
		name           string
		cart           map[string]int
		missing, extra int
	}{
		{"acknowledged and in doubt", map[string]int{"tea": 3}, 0, 0},
		{"acknowledged only", map[string]int{"tea": 2}, 0, 0},
		{"less than acknowledged", map[string]int{"tea": 1}, 1, 0},
		{"nothing", map[string]int{}, 2, 0},
		{"more than asked for", map[string]int{"tea": 4}, 0, 1},
		{"what was never asked for", map[string]int{"tea": 2, "mug": 1}, 0, 1},
	} {
		l := newLedger()
		l.confirm(l.send("tea", 2))
		l.doubt(l.send("tea", 1))
		l.refuse(l.send("mug", 1))
		missing, extra := l.compare(l.glance(), c.cart)
		if missing != c.missing || extra != c.extra {
			t.Errorf("%s: got %d missing and %d extra, want %d and %d", c.name, missing, extra, c.missing, c.extra)
		}
		if again, more := l.compare(l.glance(), c.cart); again+more > 0 {
			t.Errorf("%s: counted again, %d missing and %d extra", c.name, again, more)
		}
		if got := l.lost(c.cart); got != c.missing {
			t.Errorf("%s: %d lost in the end, want %d", c.name, got, c.missing)
		}
	}
}

func TestAnAddOnItsWayMayShowOrNot(t *testing.T) {
	for _, seen := range []int{2, 3} {
		l := newLedger()
		l.confirm(l.send("tea", 2))
		onItsWay := l.send("tea", 1)
		g := l.glance()
		l.confirm(onItsWay) // while the page was on its way back
		if missing, extra := l.compare(g, map[string]int{"tea": seen}); missing+extra > 0 {
			t.Errorf("seen %d: %d missing, %d extra", seen, missing, extra)
		}
		if missing, _ := l.compare(l.glance(), map[string]int{"tea": 2}); missing != 1 {
			t.Errorf("the next page must show it: %d missing, want 1", missing)
		}
	}
}

func TestWhatWasOrderedIsNotLost(t *testing.T) {
	l := newLedger()
	l.confirm(l.send("tea", 2))
	l.ordered.add(map[string]int{"tea": 2})
	l.confirm(l.send("tea", 1))
	if missing, extra := l.compare(l.glance(), map[string]int{"tea": 1}); missing+extra > 0 {
		t.Errorf("%d missing, %d extra", missing, extra)
	}
	if missing, _ := l.compare(l.glance(), map[string]int{}); missing != 1 {
		t.Errorf("got %d missing, want 1", missing)
	}
	if extra := func() int { _, n := l.compare(l.glance(), map[string]int{"tea": 3}); return n }(); extra != 2 {
		t.Errorf("ordered and still in the cart: got %d extra, want 2", extra)
	}
}

func TestALogoutSettlesTheCart(t *testing.T) {
	l := newLedger()
	l.confirm(l.send("tea", 2))
	late := l.send("tea", 1)
	l.clear()
	l.refuse(late)
	if missing, extra := l.compare(l.glance(), map[string]int{}); missing+extra > 0 {
		t.Errorf("%d missing, %d extra after a logout", missing, extra)
	}
	if n := l.lost(map[string]int{}); n != 0 {
		t.Errorf("%d lost, want 0", n)
	}
	l.confirm(l.send("mug", 1))
	if n := l.lost(map[string]int{}); n != 1 {
		t.Errorf("%d lost, want 1", n)
	}
}
