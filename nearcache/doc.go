// Package nearcache puts this server's memory in front of a [roam.Store], so
// that reading a session which has not changed costs no trip to the store:
//
//	store, err := nearcache.New(database, nil)
//	…
//	sessions, err := roam.New[Cart](store, nil)
//	…
//	go sessions.Run(ctx) // without it every read asks the database
//
// A [Store] starts nothing by itself. It learns which sessions have ended, on
// any server, from the log that passes through its Ends, and
// [roam.Manager.Run] reads that at least once a second. While nobody reads the
// log, nothing is answered from memory, and the Store only passes on what it is
// asked.
//
// # What it promises
//
// Only a Load that says with [roam.Want] how new the answer must be is answered
// from memory, and only while all of this holds:
//
//   - the record has the version that is wanted, and is of the store's present
//     epoch, so that a visitor reads what that visitor wrote;
//   - the log was last read to its end at most Options.Bound ago, and since the
//     record was read has nothing newer of it. So a logout, a login or another
//     level shows here when the log is read next, and what was acknowledged
//     longer than Bound ago shows in any case, also if the feed is cut;
//   - the record was read at most Options.MaxAge ago. Other changes are not in
//     the log: a visitor whose cookie does not tell of a change that was made
//     through another server may not see it for so long;
//   - it is not over by the store's clock, as far as that can be told from here.
//     If it might be, the store is asked, because another server may have
//     touched it.
//
// In all other cases the store is asked, and its answer remembered. What this
// server itself ends, changes or touches counts here at once.
//
// Only newer wins. An answer that was still on its way when something newer
// became known is given to the caller who asked for it, and not remembered,
// even if what was newer has been evicted since. That there is no record is
// never remembered, so that forged and unknown IDs take no room from anyone. A
// tombstone is.
//
// # What it gives up
//
// All that a record holds, also hashes of secrets and session data, is in this
// server's memory. Every server has a memory of its own: a session that moves
// from server to server is read once by each. A miss always asks for the newest
// record, never for a replica's, because only what was the newest when it was
// asked for can be judged by a log of what came after. And RevokeUser makes this
// server ask the database for everything until the log has been read, which it
// does itself when it is done: the store does not say whom it ended.
package nearcache
