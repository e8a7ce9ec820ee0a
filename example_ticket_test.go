package roam_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/roam-web/roam"
	"github.com/roam-web/roam/sealed"
)

var tickets *roam.Tickets

// A members' page with no store at all. All servers have the same key file.
func ExampleNewTickets() {
	keys, err := sealed.New(context.Background(), sealed.FromFile("keys.json"), nil)
	if err != nil {
		log.Print(err)
		return
	}
	go keys.Run(context.Background()) // learns of rotated and dropped keys
	tickets := roam.Must(roam.NewTickets(&roam.WebOptions{
		Sealer: keys.Sealer("__Host-roam-ticket", "members.example", "ticket"),
	}, nil))

	http.HandleFunc("GET /members", func(w http.ResponseWriter, r *http.Request) {
		who, err := tickets.Identify(w, r)
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
		if who.User == "" {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		fmt.Fprintf(w, "hello %s\n", who.User)
	})
}

// Nothing ends a ticket before its deadline. But a user's own row can say that
// tickets from before a moment do not count: here, from before the password was
// changed. It costs the trip that a ticket saves, so ask where it matters.
func ExampleTickets_Identify() {
	passwordChanged := func(ctx context.Context, user string) (time.Time, error) { return time.Time{}, nil } // the site's own table

	http.HandleFunc("GET /payslips", func(w http.ResponseWriter, r *http.Request) {
		who, err := tickets.Identify(w, r)
		var changed time.Time
		if err == nil && who.User != "" {
			changed, err = passwordChanged(r.Context(), who.User)
		}
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
		if who.User == "" || who.LoggedIn.Before(changed) {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		fmt.Fprintln(w, "…")
	})
}

func ExampleTickets_Login() {
	checkPassword := func(r *http.Request) (user string, ok bool) { return "", false }

	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		user, ok := checkPassword(r)
		if !ok {
			http.Error(w, "wrong name or password", http.StatusForbidden)
			return
		}
		if _, err := tickets.Login(w, r, roam.Login{User: user}); err != nil {
			http.Error(w, "please try again", http.StatusInternalServerError)
			return
		}
		http.Redirect(w, r, "/members", http.StatusSeeOther)
	})
}

// A site gets a store, and nobody is logged out: for as long as a ticket can
// live, both are asked, the store first. Who logs in meanwhile gets a session
// in place of the ticket. Then the tickets are taken out.
//
// Do not log a visitor in at the store because of a ticket: that would be a
// recent login which never was, and a stolen ticket would become a session.
func ExampleTickets_toStore() {
	opts := &roam.WebOptions{ /* Sealer: … */ } // the same for both: the cookies have different names
	tickets := roam.Must(roam.NewTickets(opts, nil))
	web := roam.Must(roam.NewWeb(sessions, opts))

	identify := func(w http.ResponseWriter, r *http.Request) (roam.Identity, error) {
		who, err := web.Identify(w, r)
		if err == nil && who.User == "" {
			who, err = tickets.Identify(w, r)
		}
		return who, err
	}
	http.HandleFunc("GET /members", func(w http.ResponseWriter, r *http.Request) {
		who, err := identify(w, r)
		fmt.Fprintln(w, who.User, err)
	})
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		_, err := web.Login(w, r, roam.Login{User: "ann"}, nil) // after the password was checked
		if err == nil {
			err = tickets.Logout(w, r)
		}
		fmt.Fprintln(w, err)
	})
	http.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		err := web.Logout(w, r)
		if err == nil {
			err = tickets.Logout(w, r)
		}
		fmt.Fprintln(w, err)
	})
}
