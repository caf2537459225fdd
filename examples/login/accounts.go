package main

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"html/template"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"
)

// person is an account of the application.
type person struct {
	id, email, name string
	verified        bool // somebody opened a link in a mail to email
	hash            []byte
}

// session is a browser in which a person is signed in.
type session struct {
	who *person
	at  time.Time // when the person signed in
}

// accounts are the accounts and sessions of the application, in memory.
type accounts struct {
	salt   string
	people map[string]*person // by e-mail address
	nobody *person            // an unknown address takes as long as a wrong password

	mu       sync.Mutex
	sessions map[string]session // by cookie
}

func newAccounts(password string) *accounts {
	a := &accounts{salt: rand.Text(), sessions: map[string]session{}, nobody: &person{hash: []byte(rand.Text())}}
	ada := &person{id: "u1", email: "ada@example.com", name: "Ada", verified: true, hash: a.hash(password)}
	a.people = map[string]*person{ada.email: ada}
	return a
}

// hash returns the hash of a password.
func (a *accounts) hash(password string) []byte {
	key, err := pbkdf2.Key(sha256.New, password, []byte(a.salt), 600_000, 32)
	if err != nil {
		panic(err) // of the numbers above
	}
	return key
}

// check returns the person with that address and password.
func (a *accounts) check(email, password string) (*person, bool) {
	who, ok := a.people[strings.ToLower(strings.TrimSpace(email))]
	if !ok {
		who = a.nobody
	}
	return who, subtle.ConstantTimeCompare(a.hash(password), who.hash) == 1 && ok
}

const cookieName = "app_session"

// begin signs a person in.
func (a *accounts) begin(w http.ResponseWriter, who *person) session {
	s, cookie := session{who, time.Now()}, rand.Text()
	a.mu.Lock()
	a.sessions[cookie] = s
	a.mu.Unlock()
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: cookie, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteLaxMode}) // and Secure, with https
	return s
}

// session returns the session of the browser that sent r.
func (a *accounts) session(r *http.Request) (session, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return session{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.sessions[cookie.Value]
	return s, ok
}

var signInPage = template.Must(template.New("").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in to the example</title>
<h1>Sign in to the example</h1>
{{with .Problem}}<p role="alert">{{.}}</p>{{end}}
<form method="post" action="/cardea-login">
  <input type="hidden" name="login_request" value="{{.Request}}">
  <p><label>E-mail <input name="email" type="email" autocomplete="username" required></label></p>
  <p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
  <p><button>Sign in</button> <button name="cancel" value="1" formnovalidate>Cancel</button></p>
</form>
</html>
`))

// page shows the sign-in page. request is the login request of Cardea.
func (a *accounts) page(w http.ResponseWriter, status int, request, problem string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := signInPage.Execute(w, struct{ Request, Problem string }{request, problem}); err != nil {
		log.Print(err)
	}
}
