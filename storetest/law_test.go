package storetest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roam-web/roam"
)

func openMemory(testing.TB) roam.Store { return roam.NewMemStore() }

func TestMemStoreKeepsTheLaw(t *testing.T) { Run(t, openMemory) }

// A web server with a wrong clock sees a store that keeps the law, by a clock
// that is wrong all the same: no law compares two machines' clocks.
func TestTheLawKnowsTheStoresClockOnly(t *testing.T) {
	Run(t, func(testing.TB) roam.Store { return &Skewed{Store: roam.NewMemStore(), By: -1000 * time.Hour} })
}

// A recorder is the trial of a law on a mutant.
type recorder struct {
	ctx    context.Context
	mu     sync.Mutex
	errors []string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Logf(string, ...any)      {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errors) > 0
}

// try checks a law on a store and returns what it found.
func try(t *testing.T, l law, store roam.Store) []string {
	r := &recorder{ctx: t.Context()}
	done := make(chan struct{})
	go func() { // a goroutine that Fatalf can end
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
		}()
		l.check(&tester{trial: r, store: store, patience: 100 * time.Millisecond})
	}()
	<-done
	return r.errors
}

// Each law catches the bugs that it is there for, each time; and whoever reads
// this test's log, with -v, has the table of which catches which.
func TestEveryBugIsCaught(t *testing.T) {
	byName := make(map[string]law)
	for _, l := range laws() {
		byName[l.name] = l
	}
	table := ""
	for _, p := range planted {
		for _, bug := range p.bugs {
			found := try(t, byName[p.law], newMutant(bug))
			if len(found) == 0 {
				t.Errorf("%s did not notice that %q", p.law, bug)
				continue
			}
			table += fmt.Sprintf("\n%-48s caught by %s", bug, p.law)
		}
		delete(byName, p.law)
	}
	for name := range byName {
		if !slices.Contains(managersOwn, name) {
			t.Errorf("no bug is known that %s catches", name)
		}
	}
	if !t.Failed() {
		t.Log(table)
	}
}

// planted says for each law what it catches: bugs that somebody could build
// into a store, each by the name that a mutant answers to.
var planted = []struct {
	law  string
	bugs []string
}{
	{"Load/OfNothingIsErrNotFound", []string{"Load finds what is missing"}},
	{"Load/JudgesNoExpiry", []string{"Load judges expiry"}},
	{"Load/OfNothingHasTheClockAndTheEpoch", []string{"Not found has no clock", "Not found has no epoch", "Not found has an ID"}},
	{"Load/HasTheNewest", []string{"Load is stale if it must be durable", "Load is stale after an end"}},
	{"Load/HasTheVersionWanted", []string{"Load does not check the version wanted", "Load believes a copy without the record"}},
	{"Load/OfAVersionThatIsNotThereHasTheNewest", []string{"Load fails without the version wanted", "Load is stale without the version wanted", "Load does not find another epoch"}},
	{"Load/ChangesNothing", []string{"Load counts as use"}},
	{"Insert/StoresWhatItIsGiven", []string{"Writes are forgotten", "Writes keep four ids", "Writes are signed", "Previous is forgotten", "Level is forgotten", "Limits are seconds"}},
	{"Insert/AnyValueComesBack", []string{"Level is signed", "Address is unmapped", "Agent is cut to 128 bytes", "Data is text", "Data ends at NUL", "Data is cut to 4 KiB", "Data is trimmed", "Limits are 32 bits of seconds", "Users are trimmed", "Users are cut to 64 bytes"}},
	{"Insert/BeginsAtVersionOne", []string{"Insert keeps the version it was given"}},
	{"Insert/StampsCreatedAndSeen", []string{"Insert keeps Seen as given", "Insert keeps Created as given", "Insert logs guests in"}},
	{"Insert/StampsTheLoginOfAUser", []string{"Insert keeps LoggedIn as given", "Insert forgets LoggedIn"}},
	{"Insert/MakesNoTombstone", []string{"Insert takes Ended"}},
	{"Insert/TakenIDConflicts", []string{"Insert replaces a taken ID", "Insert replaces a tombstone", "Insert replaces the expired"}},
	{"Update/StoresWhatItIsGiven", []string{"Writes are not updated", "Proof is not updated", "User is not updated", "Level is not updated", "Client is not updated", "Limits are not updated"}},
	{"Update/CanTakeEverythingAway", []string{"Data cannot be emptied"}},
	{"Update/CountsVersionsByOne", []string{"Update stores the version it was given"}},
	{"Update/NeedsTheStoredVersion", []string{"Update ignores the version", "Update takes a newer version too", "Update takes version 0 for any"}},
	{"Update/TheSameTwiceConflicts", []string{"Update ignores the version"}},
	{"Update/KeepsCreated", []string{"Update resets Created", "Update takes Created as given"}},
	{"Update/StampsSeen", []string{"Update leaves Seen", "Update takes Seen as given"}},
	{"Update/TakesLoggedInAsGiven", []string{"Update stamps LoggedIn", "Update leaves LoggedIn", "LoggedIn loses its zone"}},
	{"Update/NeverInserts", []string{"Update inserts what is missing", "Update calls a conflict not found"}},
	{"Update/NeverRevivesATombstone", []string{"Update revives a tombstone"}},
	{"Update/NeverMakesATombstone", []string{"Update takes Ended"}},
	{"Update/RefusesTheExpired", []string{"Update revives the expired", "Update guards by idle timeout alone", "Update guards by lifetime alone", "Update guards by the new limits", "Update lets those without limits live"}},
	{"Update/SetsNewLimits", []string{"Limits are not updated"}},
	{"Update/LifetimeRunsFromTheLogin", []string{"Lifetime counts from Created"}},
	{"Update/OfOneLeavesTheOthers", []string{"Update changes all of the user's"}},
	{"Update/AConflictIsNotUnavailable", []string{"Update calls a conflict unavailable"}},
	{"Touch/MovesSeenToItsTime", []string{"Touch ignores the time it is given"}},
	{"Touch/LeavesDataAndVersion", []string{"Touch raises the version"}},
	{"Touch/NeverBackwards", []string{"Touch moves backwards"}},
	{"Touch/NeverBeyondTheClock", []string{"Touch goes beyond the clock", "Touch takes the clock along"}},
	{"Touch/NeverRevivesTheExpired", []string{"Touch revives the expired"}},
	{"Touch/LeavesATombstoneAlone", []string{"Touch moves tombstones"}},
	{"Touch/SkipsWhatItDoesNotFind", []string{"Touch inserts what is missing", "Touch stops at what is missing", "Touch fails at what is missing"}},
	{"Touch/OfNothingIsNothing", []string{"Touch fails on nothing"}},
	{"Touch/TheLatestOfABatchCounts", []string{"Touch takes the first of a batch only", "Touch takes the last of a session only"}},
	{"Touch/TakesALargeBatch", []string{"Touch fails on more than 999"}},
	{"Touch/ConflictsWithNoUpdate", []string{"Touch rewrites the record"}},
	{"Touch/KeepsASessionAlive", []string{"Touch is forgotten"}},
	{"End/LeavesATombstone", []string{"End deletes the record", "End keeps the data", "End keeps the client", "End keeps the version", "End forgets the write ids", "End forgets the proofs", "End forgets the user", "Load hides tombstones"}},
	{"End/KeepsTheFirstReason", []string{"End overwrites the reason", "End moves Ended"}},
	{"End/OfNothingLeavesNothing", []string{"End of nothing leaves a tombstone", "End of nothing is an error"}},
	{"End/ReachesTheExpired", []string{"End skips the expired"}},
	{"End/TakesAnyReason", []string{"End cuts reasons to 32 bytes", "Load is stale after an end"}},
	{"End/OfOneLeavesTheOthers", []string{"End ends all of the user's"}},
	{"EndUser/EndsAllOfOneUser", []string{"EndUser deletes the records", "EndUser ends all but the user's", "EndUser counts nothing", "EndUser ends one"}},
	{"EndUser/KeepsTheExcepted", []string{"EndUser ignores except", "EndUser takes the first exception only"}},
	{"EndUser/CountsOnlyWhatItEnds", []string{"EndUser counts what had ended", "EndUser overwrites reasons"}},
	{"EndUser/TheEmptyUserHasNone", []string{"EndUser ends the guests for the empty user"}},
	{"EndUser/UsersAreExact", []string{"EndUser ignores case"}},
	{"EndUser/FollowsLogins", []string{"EndUser finds users as they were born"}},
	{"EndUser/ReachesTheExpired", []string{"EndUser skips the expired"}},
	{"EndUser/SeesTheLastWrite", []string{"EndUser misses the latest insert"}},
	{"EndUser/EndsMany", []string{"EndUser stops at 100"}},
	{"List/YieldsWholeRecords", []string{"List yields no data"}},
	{"List/NewestLoginFirst", []string{"List is oldest first", "List is by Created"}},
	{"List/ThenByID", []string{"List breaks ties at random"}},
	{"List/LeavesOutTombstones", []string{"List leaks tombstones"}},
	{"List/JudgesNoExpiry", []string{"List hides the expired"}},
	{"List/TheEmptyUserHasNone", []string{"List of the empty user has the guests"}},
	{"List/UsersAreExact", []string{"List ignores case", "List takes users as patterns"}},
	{"List/FollowsLogins", []string{"List finds users as they were born"}},
	{"List/MayStopEarly", []string{"List goes on after a break", "List leaks a cursor"}},
	{"List/MayWriteMeanwhile", []string{"List holds a lock"}},
	{"List/YieldsMany", []string{"List stops at 100"}},
	{"All/YieldsEveryRecord", []string{"All hides tombstones", "All hides the expired", "All hides guests", "All yields twice"}},
	{"All/OfNothingIsNothing", []string{"A new store has records of another"}},
	{"All/MayStopEarly", []string{"List goes on after a break", "List leaks a cursor"}},
	{"All/MayWriteMeanwhile", []string{"List holds a lock"}},
	{"Prune/RemovesWhatIsOver", []string{"Prune forgets tombstones", "Prune forgets the expired", "Prune forgets to count"}},
	{"Prune/NeverRemovesTheLiving", []string{"Prune removes the living"}},
	{"Prune/KeepsTheRecentlyOver", []string{"Prune ignores keep", "Prune counts from Created"}},
	{"Prune/ATombstoneCountsFromItsEnd", []string{"Prune counts a tombstone from its deadline"}},
	{"Prune/AtMostMax", []string{"Prune ignores max", "Prune takes max 0 for all"}},
	{"Prune/WhatIsPrunedIsNoMore", []string{"End of nothing leaves a tombstone", "Update inserts what is missing"}},
	{"Ends/TellWhatEnded", []string{"The log forgets ends", "The log forgets EndUser", "The log forgets the expired", "The log has the version that was", "The log forgets reasons", "The log cuts reasons to 32 bytes", "The log dates entries by Created"}},
	{"Ends/TellOfAnotherSecret", []string{"The log forgets secrets", "The log forgets guests who log in", "The log calls a login an end"}},
	{"Ends/TellOfAnotherLevel", []string{"The log forgets levels", "The log forgets lower levels", "The log has secret and level apart"}},
	{"Ends/TellOfNothingElse", []string{"The log has every update", "The log has every user", "The log has every login", "The log has every previous secret", "The log has updates that conflict", "The log has inserts", "The log has touches", "The log has ends of nothing", "The log has what had ended", "The log has what was pruned"}},
	{"Ends/ComeToRest", []string{"Ends begin anew each time", "Ends repeat the last one"}},
	{"Ends/EveryCursorHasAllThatCameAfterIt", []string{"Ends skip one after a cursor", "Reading the log empties it", "The log dates entries when it is read"}},
	{"Ends/AnyOtherCursorIsTheBeginning", []string{"A foreign cursor is an error", "A foreign cursor is the end", "The empty cursor is the end", "A cursor is a number alone"}},
	{"Ends/AreTheCallersToKeep", []string{"Ends give their own slice out"}},
	{"Ends/CarryTheClockAndTheEpoch", []string{"The log has no clock", "The log's clock is its last entry", "The log has another epoch"}},
	{"Ends/OutliveTheRecords", []string{"Prune empties the log", "Prune takes the log's entries along"}},
	{"Ends/AreOneWithTheChange", []string{"The log has what was cancelled", "The log misses what is cancelled"}},
	{"Concurrent/NoEndIsMissed", []string{"The log is written after the change", "A cursor passes what is not yet visible"}},
	{"Answers/CarryTheClock", []string{"Now is missing"}},
	{"Answers/TheClockMoves", []string{"Now stands still", "Now goes back"}},
	{"Answers/TheClockIsTheStores", []string{"Now is what was given", "Epoch is what was given", "Epoch changes with each answer"}},
	{"Answers/CarryOneEpoch", []string{"Epoch is missing"}},
	{"Answers/StampsAreWholeMicroseconds", []string{"Stamps have nanoseconds", "LoggedIn has nanoseconds", "Touch has nanoseconds"}},
	{"Answers/StampsAreNotCoarser", []string{"Stamps are milliseconds"}},
	{"Answers/AreWhatIsStored", []string{"Update answers with the record it was given", "Load is stale"}},
	{"Answers/KeepNoSliceOfTheCallers", []string{"Insert keeps the slice it is given", "Update keeps the slice it is given", "Load gives its own slice out", "Insert gives its own slice out", "Update gives its own slice out", "List gives its own slice out", "All gives its own slice out"}},
	{"Cancelled/BeforeTheCallIsUnavailable", []string{"Cancelled writes land", "Cancelled writes land and are called unavailable", "Cancelled reads succeed", "Cancelled calls have an error of their own", "Cancelled lists are empty", "Cancelled readings of the log succeed"}},
	{"Cancelled/MidwayTheWordHolds", []string{"Update lands although its context ends"}},
	{"LostAnswers/OwnWriteIsFound", []string{"Writes are forgotten"}},
	{"LostAnswers/OwnWriteIsFoundBehindOthers", []string{"Writes are forgotten"}},
	{"LostAnswers/OwnWriteIsFoundAtTheEndOfTheRing", []string{"Writes keep four ids"}},
	{"LostAnswers/OwnWriteIsFoundInATombstone", []string{"End forgets the write ids"}},
	{"LostAnswers/ALateArrivalIsFound", []string{"Writes are forgotten"}},
	{"LostAnswers/AConflictWithOneselfIsNone", []string{"Writes are forgotten"}},
	{"LostAnswers/AConflictWithOneselfBehindOthersIsNone", []string{"Writes keep four ids"}},
	{"LostAnswers/ARefusalBehindALateArrivalIsNotBelieved", []string{"Writes are forgotten"}},
	{"LostAnswers/MovedByOneIsAConflict", []string{"Update stores the version it was given"}},
	{"LostAnswers/MovedWithinTheRingIsAConflict", []string{"Update stores the version it was given"}},
	{"LostAnswers/EndedMeanwhileIsEnded", []string{"End keeps the data"}},
	{"LostAnswers/MovedBeyondTheRingIsUnknown", []string{"Update stores the version it was given"}},
	{"LostAnswers/LandedBeyondTheRingIsUnknown", []string{"Update stores the version it was given"}},
	{"LostAnswers/AStartIsSettled", []string{"Writes are forgotten"}},
	{"LostAnswers/ALoginIsSettled", []string{"Writes are forgotten"}},
	{"LostAnswers/NothingIsLostOrDoneTwice", []string{"Update ignores the version", "Update compares, then swaps"}},
	{"LostAnswers/AnAnsweredLogoutIsFinal", []string{"Update revives a tombstone"}},
	{"Concurrent/OneInsertWins", []string{"Insert replaces a taken ID"}},
	{"Concurrent/OneUpdateWins", []string{"Update compares, then swaps"}},
	{"Concurrent/ATouchDisturbsNoUpdate", []string{"Touch writes an old copy back"}},
	{"Concurrent/AnEndIsFinal", []string{"Update compares, then swaps"}},
	{"Concurrent/AllMethodsAtOnce", []string{"Prune ignores keep"}},
	{"Histories/AreLinearizable", []string{"Update ignores the version", "Update compares, then swaps", "Load is stale", "Update revives a tombstone"}},
	{"Histories/AreLinearizableThroughFaults", []string{"Update ignores the version", "End keeps the version", "End forgets the write ids"}},
	{"Random/StepsHaveTheAnswersOfMemStore", []string{"Update ignores the version", "Update revives the expired", "Touch moves backwards", "Touch takes the clock along", "Touch revives the expired", "End overwrites the reason", "Prune ignores keep", "EndUser ignores except", "List leaks tombstones", "The log forgets lower levels", "The log has what had ended"}},
	{"Sessions/NoUpdateIsLost", []string{"Update ignores the version", "Update compares, then swaps"}},
	{"Sessions/ALoginLosesNoUpdate", []string{"Update ignores the version"}},
	{"Sessions/ALoginHasANewSecret", []string{"Proof is not updated"}},
	{"Sessions/TwoLoginsAtOnceAreOneSession", []string{"Previous is forgotten"}},
	{"Sessions/AnotherUsersLoginCarriesNothing", []string{"End keeps the data"}},
	{"Sessions/LogoutIsFinal", []string{"Update revives a tombstone", "Update compares, then swaps"}},
	{"Sessions/RevokeUserEndsWhoeverHadLoggedIn", []string{"EndUser finds users as they were born"}},
	{"Sessions/TheLimitHolds", []string{"List is oldest first"}},
	{"Sessions/ExpiryIsJudgedOnLoad", []string{"Limits are not updated"}},
	{"Sessions/AWrongClockChangesNothing", []string{"Update leaves LoggedIn"}},
	{"Sessions/ReadsLeaveNoRecord", []string{"End of nothing leaves a tombstone"}},
	{"Sessions/ARevokeOutlivesItsRequest", []string{"EndUser misses the latest insert"}},
	{"Sessions/EveryServerReadsWhatAnyWrote", []string{"Load is stale"}},
}

// managersOwn are laws that hold on any store as long as the manager keeps
// them: to see them red, plant a bug in the manager.
var managersOwn = []string{
	"LostAnswers/UnmovedIsSentAgain",
	"LostAnswers/ARefusalAfterwardsIsNotBelieved",
	"LostAnswers/UnansweredIsUnknown",
	"LostAnswers/UnansweredThoughLandedIsUnknown",
	"LostAnswers/NeverArrivingIsUnknown",
	"Sessions/TheStoreOpensNothing",
	"Sessions/AnUnknownTokenIsNeverAdopted",
	"Sessions/AStoreThatIsDownEndsNobody",
	"Sessions/OnlyOnesOwnCanBeRevokedAsOnesOwn",
}

// The control: without a bug the mutant keeps the law, so what is caught in
// the others is their bug.
func TestTheSoundMutantKeepsTheLaw(t *testing.T) {
	Run(t, func(testing.TB) roam.Store { return newMutant("") })
}

func FuzzMemStore(f *testing.F) { Fuzz(f, openMemory) }

func BenchmarkMemStore(b *testing.B) { Bench(b, openMemory) }
