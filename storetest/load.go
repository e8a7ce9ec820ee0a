package storetest

import (
	"time"

	"github.com/roam-web/roam"
)

var loadLaws = []law{
	{"Load/OfNothingIsErrNotFound", func(t *tester) {
		t.gone(newID())
		t.insert(record("ann"))
		t.gone(newID())
		t.gone(roam.ID{})
	}},

	// The manager judges expiry, and needs the record to say since when and
	// to whom a session belonged.
	{"Load/JudgesNoExpiry", func(t *tester) {
		rec := full("ann")
		rec.Idle = time.Microsecond
		given := t.insert(rec)
		t.same("record that is over", t.untilOver(rec.ID), given)
	}},

	{"Load/ChangesNothing", func(t *tester) {
		rec := t.insert(full("ann"))
		t.untilAfter(rec.Seen, rec.ID)
		t.stored(rec)
	}},
}
