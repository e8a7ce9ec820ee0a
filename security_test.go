package roam_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/nearcache"
)

// The tests of this file are those of docs/security.md that need several parts
// of roam at once.

// junk is a text as a cookie may hold it, of so many random bytes.
func junk(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// forgedToken is the text of a token that nobody was given.
func forgedToken(r *rand.Rand) string {
	raw, _ := base64.RawURLEncoding.DecodeString(junk(r, 48))
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return base64.RawURLEncoding.EncodeToString(raw)
}

// A hundred thousand requests with made-up cookies, whatever they ask for, cost
// the store nothing, and those who were here before are served from memory all
// the while. Nor can whoever has a session of its own, and so a mark that
// opens, drive anybody out.
func TestR123ForgedCookiesAskNothingAndEvictNobody(t *testing.T) {
	const users, forgeries = 300, 100_000
	synctest.Test(t, func(t *testing.T) {
		p := newProbe()
		near, err := nearcache.New(p, &nearcache.Options{Bytes: 1 << 20, MaxAge: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		opts := &roam.WebOptions{Sealer: keyring(t).Sealer("__Host-roam-mark", "shop.example", "mark")}
		_, web := site(t, near, nil, opts)
		stranger := website(t, manager(t, roam.NewMemStore(), nil), &roam.WebOptions{Sealer: keyring(t).Sealer("__Host-roam-mark", "shop.example", "mark")})
		var people []*browser
		for range users {
			b := &browser{web, map[string]string{}}
			b.login(t, "ann")
			b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("tea")) })
			people = append(people, b)
		}
		elsewhere := &browser{stranger, map[string]string{}}
		elsewhere.login(t, "ann")
		time.Sleep(time.Second)
		look := func(b *browser) {
			t.Helper()
			w := httptest.NewRecorder()
			if who, err := web.Identify(w, b.request()); err != nil || who.User != "ann" {
				t.Fatalf("a visitor is %q, %v", who.User, err)
			}
			if s, err := web.Get(w, b.request()); err != nil || len(s.Data.Items) != 1 {
				t.Fatalf("a visitor has %v, %v", s.Data, err)
			}
		}
		for _, b := range people {
			look(b)
		}

		r := rand.New(rand.NewPCG(1, 2))
		calls, before := p.calls(), near.Stats()
		for i := range forgeries {
			victim := people[r.IntN(users)].jar
			tok, mark := victim["__Host-roam"], victim["__Host-roam-mark"]
			switch i % 7 {
			case 0: // nothing is true
				tok, mark = forgedToken(r), junk(r, len(mark)*3/4)
			case 1: // a token alone
				tok, mark = forgedToken(r), ""
			case 2: // a true token, whose mark was tampered with
				at := r.IntN(len(mark) - 1)
				mark = mark[:at] + string("AB"[strings.IndexByte("A", mark[at])+1]) + mark[at+1:]
			case 3: // a true token without its mark
				mark = ""
			case 4: // another site's mark
				tok, mark = forgedToken(r), elsewhere.jar["__Host-roam-mark"]
			case 5: // a plain mark, which anybody can make
				mark = base64.RawURLEncoding.EncodeToString(append([]byte{0}, junk(r, 12)...))
			case 6: // what is no cookie of ours at all
				tok, mark = junk(r, r.IntN(80)), junk(r, r.IntN(900))
			}
			w, req := httptest.NewRecorder(), request("GET", "__Host-roam="+tok+"; __Host-roam-mark="+mark)
			var who roam.Identity
			var s roam.Session[Cart]
			var err error
			switch i / 7 % 4 {
			case 0:
				who, err = web.Identify(w, req)
			case 1:
				s, err = web.Get(w, req)
			case 2:
				s, err = web.Fresh(w, req)
			case 3:
				if s, err = web.RequireLogin(w, req, 0, 0); errors.Is(err, roam.ErrLogin) {
					err = nil
				}
			}
			if who != (roam.Identity{}) || s.User != "" || !s.ID.IsZero() || err != nil || w.Header().Get("Set-Cookie") != "" {
				t.Fatalf("forgery of kind %d: %+v, %+v, %v, sets %q; want a stranger", i%7, who, s, err, w.Header().Get("Set-Cookie"))
			}
			if i%10 == 0 {
				look(people[i/10%users])
			}
		}
		after := near.Stats()
		if n := p.calls() - calls; n != 0 {
			t.Errorf("%d calls of the store for %d forged cookies, want 0", n, forgeries)
		}
		if hits := after.Hits - before.Hits; hits != forgeries/10 || after.Misses != before.Misses || after.Evicted != before.Evicted || after.Entries != before.Entries || after.Bytes != before.Bytes {
			t.Errorf("%+v, and then %+v: want %d hits more, and else no change", before, after, forgeries/10)
		}

		// With a mark that was honestly come by, a made-up token is asked for,
		// once each time, and leaves nothing behind.
		mine := people[0].jar["__Host-roam-mark"]
		for range 1000 {
			if _, err := web.Get(httptest.NewRecorder(), request("GET", "__Host-roam="+forgedToken(r)+"; __Host-roam-mark="+mine)); reason(err) != roam.Missing {
				t.Fatalf("a made-up token: %v", err)
			}
		}
		for _, b := range people {
			look(b)
		}
		if last := near.Stats(); last.Entries != after.Entries || last.Evicted != after.Evicted || p.calls()-calls != 1000 {
			t.Errorf("%+v, and then %+v and %d calls: want nothing evicted, and one call each", after, last, p.calls()-calls)
		}
	})
}

// An emptied store has lost records of which its log says nothing: somebody has
// deleted rows by hand.
type emptied struct {
	roam.Store
	mu   sync.Mutex
	lost map[roam.ID]bool
}

func (e *emptied) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	e.mu.Lock()
	lost := e.lost[id]
	e.mu.Unlock()
	if lost {
		id = roam.ID{}
	}
	return e.Store.Load(ctx, id, want)
}

// A cookie that opens is no session. Alone it is nobody's; and if its record is
// gone, even by a way of which the log does not tell, it is over: at once for
// whoever asks the store, for the near cache within MaxAge, and for Identify
// within the five minutes in which a seal decides.
func TestR036ACookieWithoutARecordAuthorisesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &emptied{Store: roam.NewMemStore(), lost: map[roam.ID]bool{}}
		var webs []*roam.Web[Cart]
		for range 3 {
			near, err := nearcache.New(store, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, web := site(t, near, nil, sealedWeb)
			webs = append(webs, web)
		}
		b := &browser{webs[0], map[string]string{}}
		s := b.login(t, "ann")
		time.Sleep(time.Second)
		get := func(web *roam.Web[Cart]) error { _, err := web.Get(httptest.NewRecorder(), b.request()); return err }
		fresh := func(web *roam.Web[Cart]) error { _, err := web.Fresh(httptest.NewRecorder(), b.request()); return err }
		identify := func(web *roam.Web[Cart]) error { _, err := b.at(web).identify(); return err }
		for i, web := range webs {
			if err := errors.Join(identify(web), get(web), fresh(web)); err != nil {
				t.Fatalf("server %d, with its record: %v", i, err)
			}
			alone := request("GET", "__Host-roam-mark="+b.jar["__Host-roam-mark"])
			if who, err := web.Identify(httptest.NewRecorder(), alone); who != (roam.Identity{}) || err != nil {
				t.Errorf("server %d: the mark alone is %+v, %v; want a stranger", i, who, err)
			}
		}
		store.mu.Lock()
		store.lost[s.ID] = true
		store.mu.Unlock()
		wantReason(t, "Fresh at once", fresh(webs[0]), roam.Missing)
		time.Sleep(time.Minute + time.Second)
		for i, web := range webs {
			wantReason(t, fmt.Sprintf("server %d: Get after a minute", i), get(web), roam.Missing)
		}
		time.Sleep(4 * time.Minute)
		for i, web := range webs {
			wantReason(t, fmt.Sprintf("server %d: Identify after five", i), identify(web), roam.Missing)
		}
	})
}

// An unruly feed is the log of ends as it arrives over a bad network: answers
// are lost, come late, come again, and have their entries in any order.
type unruly struct {
	roam.Store
	mu   sync.Mutex
	rand *rand.Rand
	how  string
	was  []roam.End
}

func (u *unruly) Ends(ctx context.Context, after roam.Cursor) (roam.Log, error) {
	u.mu.Lock()
	how, dice := u.how, u.rand.IntN(100)
	u.mu.Unlock()
	if how == "dropped" && dice < 50 || how == "cut" {
		return roam.Log{}, fmt.Errorf("%w: %w", roam.ErrUnavailable, errLost)
	}
	log, err := u.Store.Ends(ctx, after)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch how {
	case "dropped":
		if dice < 75 { // on the way back
			return roam.Log{}, fmt.Errorf("%w: %w", roam.ErrUnavailable, errLost)
		}
	case "delayed":
		u.mu.Unlock()
		select {
		case <-time.After(time.Duration(dice) * 30 * time.Millisecond):
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", roam.ErrUnavailable, ctx.Err())
		}
		u.mu.Lock()
	case "duplicated":
		log.Ends, u.was = append(slices.Clone(log.Ends), u.was...), append(u.was, log.Ends...)
	case "reordered":
		log.Ends = append(slices.Clone(log.Ends), log.Ends...)
		u.rand.Shuffle(len(log.Ends), func(i, j int) { log.Ends[i], log.Ends[j] = log.Ends[j], log.Ends[i] })
	}
	return log, err
}

// Whatever becomes of the feed, nobody who was revoked is served after the bound,
// from seal, near cache or both; and while the answers arrive at all, nobody
// after a second.
func TestR124AFeedThatIsUnrulyServesNobodyBeyondTheBound(t *testing.T) {
	for how, bound := range map[string]time.Duration{
		"dropped": 5 * time.Second, "cut": 5 * time.Second, "delayed": 5 * time.Second,
		"duplicated": time.Second, "reordered": time.Second,
	} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := roam.NewMemStore()
				operator := manager(t, store, nil)
				r := rand.New(rand.NewPCG(3, 4))
				var feeds []*unruly
				var webs []*roam.Web[Cart]
				for i := range 3 {
					feed := &unruly{Store: store, rand: rand.New(rand.NewPCG(uint64(i), 5))}
					near, err := nearcache.New(feed, nil)
					if err != nil {
						t.Fatal(err)
					}
					_, web := site(t, near, nil, sealedWeb)
					feeds, webs = append(feeds, feed), append(webs, web)
				}
				type visitor struct {
					*browser
					roam.ID
					ended time.Time
				}
				var all []*visitor
				for range 60 {
					b := &browser{webs[r.IntN(3)], map[string]string{}}
					all = append(all, &visitor{browser: b, ID: b.login(t, "ann").ID})
				}
				time.Sleep(time.Second)
				look := func() (late time.Duration) {
					for _, v := range all {
						for i, web := range webs {
							_, err1 := v.at(web).identify()
							_, err2 := web.Get(httptest.NewRecorder(), v.request())
							past := time.Since(v.ended)
							for _, err := range []error{err1, err2} {
								switch served := err == nil; {
								case !served && !errors.Is(err, roam.ErrEnded):
									t.Fatalf("server %d: %v", i, err)
								case v.ended.IsZero() && !served:
									t.Fatalf("server %d says that a living session is over: %v", i, err)
								case !v.ended.IsZero() && served:
									late = max(late, past)
								}
							}
						}
					}
					return late
				}
				look()
				for _, feed := range feeds {
					feed.mu.Lock()
					feed.how = how
					feed.mu.Unlock()
				}
				var latest time.Duration
				for i := range 50 {
					v := all[i]
					if err := operator.Revoke(t.Context(), v.ID, roam.Revoked); err != nil {
						t.Fatal(err)
					}
					v.ended = time.Now()
					time.Sleep(time.Duration(100+r.IntN(200)) * time.Millisecond)
					latest = max(latest, look())
				}
				if latest >= bound {
					t.Errorf("somebody was served %v after the end, want less than %v", latest, bound)
				}
				t.Logf("served at most %v after the end", latest)
				for _, feed := range feeds {
					feed.mu.Lock()
					feed.how = ""
					feed.mu.Unlock()
				}
				time.Sleep(4 * time.Second) // an answer that is still on its way may take three
				if err := operator.Revoke(t.Context(), all[50].ID, roam.Revoked); err != nil {
					t.Fatal(err)
				}
				all[50].ended = time.Now()
				time.Sleep(time.Second)
				if late := look(); late != 0 {
					t.Errorf("with the feed mended somebody is served %v after the end", late)
				}
			})
		})
	}
}

// A lagging store answers whoever can do with a copy from a replica that is
// behind. (A store of package postgresstore with replicas does.)
type lagging struct {
	*roam.MemStore
	lag time.Duration

	mu   sync.Mutex
	has  map[roam.ID][]arrival // oldest first
	gave [2]int                // answers by the primary, and by the replica
	lies bool                  // the replica does not look whether it is new enough
}

type arrival struct {
	at  time.Time
	rec roam.Record
}

func (l *lagging) ship(rec roam.Record, err error) (roam.Record, error) {
	if err == nil {
		kept := rec
		kept.Data = bytes.Clone(rec.Data)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.has[rec.ID] = append(l.has[rec.ID], arrival{time.Now().Add(l.lag), kept})
	}
	return rec, err
}

func (l *lagging) Insert(ctx context.Context, rec roam.Record) (roam.Record, error) {
	return l.ship(l.MemStore.Insert(ctx, rec))
}

func (l *lagging) Update(ctx context.Context, rec roam.Record) (roam.Record, error) {
	return l.ship(l.MemStore.Update(ctx, rec))
}

func (l *lagging) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	rec, err := l.MemStore.Load(ctx, id, want)
	if want.Version == 0 || want.Durable || err != nil || !rec.Ended.IsZero() {
		return rec, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range slices.Backward(l.has[id]) {
		if time.Now().Before(a.at) {
			continue
		}
		if a.rec.Version >= want.Version && a.rec.Epoch >= want.Epoch || l.lies {
			l.gave[1]++
			old := a.rec
			old.Data, old.Now = bytes.Clone(old.Data), rec.Now
			return old, nil
		}
		break
	}
	l.gave[0]++
	return rec, nil
}

// Login here, the next request there, with the replica two seconds behind and
// nobody sticky: ten thousand times, it works at once.
func TestR128LoginHereAndTheNextRequestThereWorksAtOnce(t *testing.T) {
	const pairs = 10_000
	for name, opts := range map[string]*roam.WebOptions{"sealed": sealedWeb, "plain": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &lagging{MemStore: roam.NewMemStore(), lag: 2 * time.Second, has: map[roam.ID][]arrival{}}
				var webs []*roam.Web[Cart]
				for range 4 {
					_, web := site(t, store, nil, opts)
					webs = append(webs, web)
				}
				r := rand.New(rand.NewPCG(6, 7))
				one := func() *roam.Web[Cart] { return webs[r.IntN(len(webs))] }
				type member struct {
					*browser
					user  string
					items int
				}
				var recent []*member
				failures := 0
				check := func(m *member, what string) {
					who, err1 := m.at(one()).identify()
					var s roam.Session[Cart]
					var err2 error
					m.at(one()).visit(func(w http.ResponseWriter, r *http.Request) { s, err2 = one().Get(w, r) })
					if who.User != m.user || s.User != m.user || len(s.Data.Items) != m.items || err1 != nil || err2 != nil {
						if failures++; failures < 5 {
							t.Errorf("%s: %q (%v) with %d items of %q (%v), want %q with %d", what, who.User, err1, len(s.Data.Items), s.User, err2, m.user, m.items)
						}
					}
				}
				for i := range pairs {
					m := &member{&browser{nil, map[string]string{}}, "", r.IntN(3)}
					for range m.items { // a guest first
						web := one()
						m.at(web).visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("tea")) })
					}
					m.at(one()).login(t, "user-"+strconv.Itoa(i))
					m.user = "user-" + strconv.Itoa(i)
					check(m, "right after the login")
					if recent = append(recent, m); len(recent) > 50 {
						recent = recent[1:]
					}
					old := recent[r.IntN(len(recent))]
					check(old, "later")
					switch r.IntN(4) {
					case 0:
						web := one()
						old.at(web).visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("tea")) })
						old.items++
						check(old, "right after an update")
					case 1:
						old.at(one()).login(t, old.user)
						check(old, "right after another login")
					}
					time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
				}
				if failures > 0 {
					t.Errorf("%d failures", failures)
				}
				t.Logf("%d answers by the primary, %d by a replica that is 2 s behind", store.gave[0], store.gave[1])
				if store.gave[0] < 1000 || store.gave[1] < 1000 {
					t.Errorf("%d answers by the primary and %d by the replica: want many of both, or this proves nothing", store.gave[0], store.gave[1])
				}
			})
		})
	}
}

// An openly "sealed" mark shows what is in it, so that a test can make one by
// the layout alone.
type openly struct{}

func (openly) Seal(dst, plaintext, aad []byte) []byte { return append(dst, plaintext...) }
func (openly) Open(dst, sealed, aad []byte) ([]byte, error) {
	return append(dst, sealed...), nil
}

// Cookies that another version has written are read: this spells the layout of
// token and marks out, byte by byte. If it must be changed, servers of two
// versions cannot run side by side, so add a layout instead.
func TestR129TheLayoutOfTheCookiesStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := roam.ID{0: 1, 6: 0x42, 8: 0x83, 15: 4}
		secret := bytes.Repeat([]byte{0x5a}, 32)
		proof := roam.Proof(sha256.Sum256(append([]byte("roam/secret/v1\x00"), secret...)))
		p := newProbe()
		rec, err := p.Store.Insert(t.Context(), roam.Record{ID: id, Proof: proof, User: "ann", Level: 2, Data: []byte(`{"items":["tea"]}`), Idle: time.Hour, Lifetime: 12 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		tok := base64.RawURLEncoding.EncodeToString(append(id[:], secret...))

		fact := markOf(rec, proof)
		_, web := site(t, p, nil, &roam.WebOptions{Sealer: openly{}})
		time.Sleep(time.Second)
		who, err := web.Identify(httptest.NewRecorder(), request("GET", "__Host-roam="+tok+"; __Host-roam-mark="+base64.RawURLEncoding.EncodeToString(fact)))
		if err != nil || who.User != "ann" || who.ID != id || who.Level != 2 || !who.LoggedIn.Equal(rec.LoggedIn) || !who.Expires.Equal(rec.Seen.Add(time.Hour)) || p.loads.Load() != 0 {
			t.Errorf("a sealed mark of this layout: %+v, %v, after %d loads; want ann without one", who, err, p.loads.Load())
		}

		// A plain mark says that an older copy is not enough.
		plain := append(append([]byte{0}, proof[:8]...), 7, 0) // plain, a quarter of the proof, version, epoch
		old := &stale{Store: p.Store, old: map[roam.ID]roam.Record{id: rec}}
		m := manager(t, old, nil)
		got, err := website(t, m, nil).Get(httptest.NewRecorder(), request("GET", "__Host-roam="+tok+"; __Host-roam-mark="+base64.RawURLEncoding.EncodeToString(plain)))
		if err != nil || got.User != "ann" || len(got.Data.Items) != 1 {
			t.Errorf("a token of this layout: %+v, %v", got, err)
		}
		var asked roam.Want
		listening := &wanting{p.Store, &asked}
		if _, err := website(t, manager(t, listening, nil), nil).Get(httptest.NewRecorder(), request("GET", "__Host-roam="+tok+"; __Host-roam-mark="+base64.RawURLEncoding.EncodeToString(plain))); err != nil || asked.Version != 7 {
			t.Errorf("a plain mark of this layout asks for %+v, %v; want version 7", asked, err)
		}

		// And what is written here is what was spelt out.
		store := roam.NewMemStore()
		_, web = site(t, store, nil, &roam.WebOptions{Sealer: openly{}})
		b := &browser{web, map[string]string{}}
		s := b.login(t, "ann")
		time.Sleep(time.Minute)
		b.visit(func(w http.ResponseWriter, r *http.Request) { web.Update(w, r, put("tea")) })
		if rec, err = store.Load(t.Context(), s.ID, roam.Want{}); err != nil || rec.Version == rec.Epoch {
			t.Fatal(rec.Version, rec.Epoch, err)
		}
		raw, _ := base64.RawURLEncoding.DecodeString(b.jar["__Host-roam"])
		if len(raw) != 48 || roam.ID(raw[:16]) != s.ID {
			t.Fatalf("a token of %d bytes for %v", len(raw), s.ID)
		}
		proof = roam.Proof(sha256.Sum256(append([]byte("roam/secret/v1\x00"), raw[16:]...)))
		if mark, _ := base64.RawURLEncoding.DecodeString(b.jar["__Host-roam-mark"]); !bytes.Equal(mark, markOf(rec, proof)) || rec.Proof != proof {
			t.Errorf("written:\n %x, want the layout\n %x", mark, markOf(rec, proof))
		}
	})
}

// markOf spells out a sealed mark before it is sealed: that it is one, ID, half
// of the proof, eight numbers, level, user.
func markOf(rec roam.Record, proof roam.Proof) []byte {
	b := append(append([]byte{1}, rec.ID[:]...), proof[:16]...)
	for _, v := range []int64{
		int64(rec.Version), int64(rec.Epoch), rec.Now.UnixMicro(), rec.Created.UnixMicro(), rec.LoggedIn.UnixMicro(),
		rec.Seen.UnixMicro(), int64(rec.Idle), int64(rec.Lifetime),
	} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return append(append(b, byte(rec.Level)), rec.User...)
}

// A wanting store tells what it was asked for.
type wanting struct {
	roam.Store
	asked *roam.Want
}

func (l *wanting) Load(ctx context.Context, id roam.ID, want roam.Want) (roam.Record, error) {
	*l.asked = want
	return l.Store.Load(ctx, id, want)
}

// A client touches cookies. What reads them decodes no objects: only numbers of
// a fixed length, and texts.
func TestR030NoDecoderOfObjectsIsNearACookie(t *testing.T) {
	allowed := map[string]bool{}
	for _, path := range []string{"context", "crypto/rand", "crypto/sha256", "crypto/subtle", "encoding/base64", "encoding/binary", "encoding/hex", "errors", "fmt", "hash/maphash", "io", "log/slog", "net/http", "slices", "strings", "sync", "sync/atomic", "time"} {
		allowed[path] = true
	}
	for _, name := range []string{"token.go", "mark.go", "ticket.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			if path, _ := strconv.Unquote(spec.Path.Value); !allowed[path] {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}

// whatever is in the two cookies, no panic, and nobody's identity
// but that of the two as they were given out. The input says what to do with
// these, as each process of the fuzzer has others.
func FuzzMark(f *testing.F) {
	f.Add("", "", uint16(0), byte(0), false)
	f.Add("", "", uint16(3), byte(1), true)
	f.Add("AQ", "AAAA", uint16(0), byte(0), false)
	f.Add("", "x; __Host-roam-mark=y", uint16(60000), byte(0), false)
	store := roam.NewMemStore()
	m, err := roam.New[Cart](store, nil)
	if err != nil {
		f.Fatal(err)
	}
	type server struct {
		web       *roam.Web[Cart]
		tok, mark string
	}
	var servers []server
	for _, opts := range []*roam.WebOptions{{Sealer: keyring(f).Sealer("__Host-roam-mark", "shop.example", "mark")}, nil} {
		web, err := roam.NewWeb(m, opts)
		if err != nil {
			f.Fatal(err)
		}
		w := httptest.NewRecorder()
		if _, err := web.Login(w, request("POST"), roam.Login{User: "ann"}, nil); err != nil {
			f.Fatal(err)
		}
		b := &browser{web, map[string]string{}}
		b.keep(w)
		servers = append(servers, server{web, b.jar["__Host-roam"], b.jar["__Host-roam-mark"]})
	}
	f.Fuzz(func(t *testing.T, tok, mark string, at uint16, flip byte, both bool) {
		for i, s := range servers {
			change := func(good, text string) string {
				if text != "" {
					return text
				}
				b := []byte(good)
				b[int(at)%len(b)] ^= flip
				return string(b)
			}
			sentTok, sentMark := s.tok, change(s.mark, mark)
			if both || tok != "" {
				sentTok = change(s.tok, tok)
			}
			w := httptest.NewRecorder()
			who, err := s.web.Identify(w, request("GET", "__Host-roam="+sentTok+"; __Host-roam-mark="+sentMark))
			known := err == nil && who.User != ""
			if known && (who.User != "ann" || sentTok != s.tok) && !strings.HasPrefix(sentTok, s.tok+";") && strings.TrimRight(sentTok, " \t") != s.tok {
				t.Errorf("server %d, token %q, mark %q: %+v", i, sentTok, sentMark, who)
			}
			if gate := i == 0; known && gate && flip != 0 && mark == "" && sentMark != s.mark {
				// base64 has bits that do not count at the end of a text.
				a, _ := base64.RawURLEncoding.DecodeString(sentMark)
				b, _ := base64.RawURLEncoding.DecodeString(s.mark)
				if !bytes.Equal(a, b) && !strings.Contains(sentMark, ";") {
					t.Errorf("a mark that was changed opens: %q, given %q", sentMark, s.mark)
				}
			}
			if len(w.Header()["Set-Cookie"]) != 0 {
				t.Errorf("a read sets %q", w.Header()["Set-Cookie"])
			}
			if err != nil && !errors.Is(err, roam.ErrEnded) {
				t.Errorf("token %q, mark %q: %v", sentTok, sentMark, err)
			}
		}
	})
}
