package roam_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/roam-web/roam"
)

// Basket is the session data of the examples: identifiers and unfinished work.
type Basket struct {
	Items []string `json:"items,omitempty"`
}

var (
	ctx      = context.Background()
	sessions = roam.Must(roam.New[Basket](roam.NewMemStore(), nil))
	web      = roam.Must(roam.NewWeb(sessions, nil))
)

func Example() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /basket/{item}", func(w http.ResponseWriter, r *http.Request) {
		s, err := web.Update(w, r, func(b *Basket) error {
			b.Items = append(b.Items, r.PathValue("item"))
			return nil
		})
		switch {
		case errors.Is(err, roam.ErrUnknown):
			http.Error(w, "perhaps it is in your basket: please look", http.StatusServiceUnavailable)
		case errors.Is(err, roam.ErrUnavailable):
			http.Error(w, "please try again", http.StatusServiceUnavailable)
		case errors.Is(err, roam.ErrEnded):
			web.Forget(w, err)
			http.Error(w, "please log in again: "+err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, "bad request", http.StatusBadRequest)
		default:
			fmt.Fprintf(w, "%d items\n", len(s.Data.Items))
		}
	})
	// Pages that do not call web pay nothing for sessions.
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "welcome")
	})
}

func ExampleManager_Update() {
	s, err := sessions.Update(ctx, roam.Token{}, func(b *Basket) error {
		b.Items = append(b.Items, "tea")
		return nil
	})
	fmt.Println(s.Data.Items, err)
	s, err = sessions.Update(ctx, s.Token, func(b *Basket) error {
		b.Items = append(b.Items, "milk")
		return nil
	})
	fmt.Println(s.Data.Items, err)
	// Output:
	// [tea] <nil>
	// [tea milk] <nil>
}

func ExampleManager_Get() {
	s, err := sessions.Get(ctx, roam.Token{}) // a first visit is no error
	fmt.Printf("%q %v\n", s.User, err)
	// Output: "" <nil>
}

func ExampleManager_Login() {
	guest, _ := sessions.Update(ctx, roam.Token{}, func(b *Basket) error {
		b.Items = []string{"tea"}
		return nil
	})
	ann, err := sessions.Login(ctx, guest.Token, roam.Login{User: "ann"}, nil)
	fmt.Println(ann.User, ann.Data.Items, err)
	_, err = sessions.Get(ctx, guest.Token) // the secret from before the login is dead
	var ended *roam.EndedError
	fmt.Println(errors.As(err, &ended) && ended.Reason == roam.Rotated)
	// Output:
	// ann [tea] <nil>
	// true
}

func ExampleManager_Logout() {
	ann, _ := sessions.Login(ctx, roam.Token{}, roam.Login{User: "ann"}, nil)
	if err := sessions.Logout(ctx, ann.Token); err != nil {
		fmt.Println("not logged out:", err) // the store gave no answer
	}
	_, err := sessions.Get(ctx, ann.Token)
	var ended *roam.EndedError
	if errors.As(err, &ended) {
		fmt.Println(ended.Reason)
	}
	// Output: logged out
}

func ExampleManager_List() {
	phone, _ := sessions.Login(ctx, roam.Token{}, roam.Login{User: "eve", From: roam.Client{Agent: "phone"}}, nil)
	sessions.Login(ctx, roam.Token{}, roam.Login{User: "eve", From: roam.Client{Agent: "laptop"}}, nil)
	for s, err := range sessions.List(ctx, "eve") {
		fmt.Println(s.From.Agent, s.ID == phone.ID, err)
	}
	// Output:
	// laptop false <nil>
	// phone true <nil>
}

func ExampleManager_RevokeUser() {
	here, _ := sessions.Login(ctx, roam.Token{}, roam.Login{User: "joe"}, nil)
	sessions.Login(ctx, roam.Token{}, roam.Login{User: "joe"}, nil)
	// After a new password: a new secret here, and all others end.
	here, _ = sessions.Login(ctx, here.Token, roam.Login{User: "joe"}, nil)
	n, err := sessions.RevokeUser(ctx, "joe", roam.PasswordChanged, here.ID) // all others
	fmt.Println(n, err)
	// Output: 1 <nil>
}

func ExampleManager_RevokeOwn() {
	here, _ := sessions.Login(ctx, roam.Token{}, roam.Login{User: "kim"}, nil)
	lost, _ := sessions.Login(ctx, roam.Token{}, roam.Login{User: "kim"}, nil)
	fmt.Println(sessions.RevokeOwn(ctx, here.Token, lost.ID, roam.LoggedOut))
	// Output: <nil>
}

func ExampleManager_Revoke() {
	s, _ := sessions.Login(ctx, roam.Token{}, roam.Login{User: "lee"}, nil)
	fmt.Println(sessions.Revoke(ctx, s.ID, roam.Revoked))
	// Output: <nil>
}

func ExampleManager_Run() {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- sessions.Run(ctx) }()
	// … serve …
	stop()
	fmt.Println(<-done)
	// Output: <nil>
}

func ExampleWeb_Get() {
	http.HandleFunc("GET /account", func(w http.ResponseWriter, r *http.Request) {
		s, err := web.Get(w, r)
		if errors.Is(err, roam.ErrEnded) {
			web.Forget(w, err)
			http.Error(w, "please log in again: "+err.Error(), http.StatusUnauthorized)
			return
		}
		if err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "hello %s, logged in at %v\n", s.User, s.LoggedIn)
	})
}

func ExampleWeb_Login() {
	checkPassword := func(r *http.Request) (user string, ok bool) { return "", false }

	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		user, ok := checkPassword(r)
		if !ok {
			http.Error(w, "wrong name or password", http.StatusForbidden)
			return
		}
		if _, err := web.Login(w, r, roam.Login{User: user}, nil); err != nil {
			http.Error(w, "please try again", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/account", http.StatusSeeOther)
	})
}

func ExampleWeb_Logout() {
	http.HandleFunc("POST /logout", func(w http.ResponseWriter, r *http.Request) {
		if err := web.Logout(w, r); err != nil {
			http.Error(w, "you are still logged in: please try again", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}
