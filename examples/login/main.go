// Command login is an application with accounts of its own, whose sign-in page is also the one of Cardea. What concerns
// Cardea is in this file. accounts.go stands for what your application has already.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"
)

// app is the application.
type app struct {
	issuer           string // of Cardea
	clientID, secret string // printed by: cardea client create --name App --login
	accounts         *accounts
	crossOrigin      *http.CrossOriginProtection
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /cardea-login", a.arrive)
	mux.HandleFunc("POST /cardea-login", a.signIn)
	return a.crossOrigin.Handler(mux)
}

// arrive answers the browser that Cardea sends here (login.external.url), with login_request. If the person is signed
// in already, the browser goes on at once.
func (a *app) arrive(w http.ResponseWriter, r *http.Request) {
	request := r.FormValue("login_request")
	if s, ok := a.accounts.session(r); ok {
		a.goOn(w, r, request, s)
		return
	}
	a.accounts.page(w, http.StatusOK, request, "")
}

// signIn answers the form of the sign-in page.
func (a *app) signIn(w http.ResponseWriter, r *http.Request) {
	request := r.PostFormValue("login_request")
	if r.PostFormValue("cancel") != "" {
		a.send(w, r, request, answer{Error: "access_denied"})
		return
	}
	who, ok := a.accounts.check(r.PostFormValue("email"), r.PostFormValue("password"))
	if !ok {
		a.accounts.page(w, http.StatusForbidden, request,
			"That did not work. Check the e-mail address and the password.")
		return
	}
	a.goOn(w, r, request, a.accounts.begin(w, who))
}

// answer is what Cardea is told about the person.
type answer struct {
	// Sub is the person's id here. It never changes, and is never another person's.
	Sub           string   `json:"sub,omitempty"`
	Email         string   `json:"email,omitempty"`
	EmailVerified bool     `json:"email_verified,omitempty"`
	Name          string   `json:"name,omitempty"`
	AMR           []string `json:"amr,omitempty"`       // how the person signed in (RFC 8176)
	AuthTime      int64    `json:"auth_time,omitempty"` // when
	Error         string   `json:"error,omitempty"`     // or access_denied
}

func (a *app) goOn(w http.ResponseWriter, r *http.Request, request string, s session) {
	a.send(w, r, request, answer{Sub: s.who.id, Email: s.who.email, EmailVerified: s.who.verified, Name: s.who.name,
		AMR: []string{"pwd"}, AuthTime: s.at.Unix()})
}

// send answers the login request from server to server, and sends the browser back to Cardea. If the sign-in is too old
// for Cardea, it asks the person for the password again.
func (a *app) send(w http.ResponseWriter, r *http.Request, request string, said answer) {
	to, problem, err := a.tell(r, request, said)
	switch {
	case errors.Is(err, errOver):
		log.Print(err)
		http.Error(w, "This sign-in took too long, or was finished already. Please start again from your agent.",
			http.StatusBadRequest)
	case err != nil:
		log.Print(err)
		http.Error(w, "You could not be signed in, because this application and the server that asked for you do not "+
			"understand each other at the moment. It is not your password. Please tell the people who run this "+
			"application.",
			http.StatusBadGateway)
	case problem != "":
		a.accounts.page(w, http.StatusOK, request, problem)
	default:
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// errOver reports a login request that cannot be answered any more. The person can begin another one. All other
// errors of tell mean that the application is set up wrongly or cannot reach Cardea.
var errOver = errors.New("the login request is over")

// tell sends an answer to Cardea. It returns where the browser goes on or, if the person has to sign in again, the
// sentence that says so.
func (a *app) tell(r *http.Request, request string, said answer) (to, problem string, err error) {
	body, err := json.Marshal(said)
	if err != nil {
		return "", "", err
	}
	post, err := http.NewRequestWithContext(r.Context(), http.MethodPost,
		a.issuer+"/login/external/"+url.PathEscape(request), bytes.NewReader(body))
	if err != nil {
		return "", "", err
	}
	post.SetBasicAuth(url.QueryEscape(a.clientID), url.QueryEscape(a.secret)) // RFC 6749 §2.3.1
	post.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(post)
	if err != nil {
		return "", "", fmt.Errorf("Cardea does not answer, check ISSUER: %w", err) //nolint:staticcheck // a name
	}
	defer func() { _ = resp.Body.Close() }()
	var heard struct {
		ContinueURL string `json:"continue_url"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&heard); err != nil {
		return "", "", fmt.Errorf("%s is not Cardea, check ISSUER: %s: %w", a.issuer, resp.Status, err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return heard.ContinueURL, "", nil
	case heard.Error == "login_required":
		return "", "Please sign in again: it has been a while.", nil
	case heard.Error == "invalid_request" && slices.Contains(over, resp.StatusCode):
		err = errOver
	case heard.Error == "invalid_client":
		err = errors.New("check CLIENT_ID and CLIENT_SECRET")
	default:
		err = errors.New("see the guide")
	}
	return "", "", fmt.Errorf("Cardea refuses the answer: %s: %s: %s (%w)", //nolint:staticcheck // a name
		resp.Status, heard.Error, heard.Description, err)
}

// over are the statuses with which Cardea says that a login request is unknown, was answered before, or is too old.
var over = []int{http.StatusNotFound, http.StatusConflict, http.StatusGone}

func main() {
	listen := cmp.Or(os.Getenv("LISTEN"), "localhost:8070")
	a := &app{issuer: cmp.Or(os.Getenv("ISSUER"), "http://localhost:8080"), clientID: os.Getenv("CLIENT_ID"),
		secret:      os.Getenv("CLIENT_SECRET"),
		accounts:    newAccounts(cmp.Or(os.Getenv("PASSWORD"), "correct horse battery staple")),
		crossOrigin: http.NewCrossOriginProtection()}
	s := &http.Server{Addr: listen, Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second}
	log.Printf("Application on http://%s", listen)
	log.Fatal(s.ListenAndServe())
}
