package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
)

// provider is the method of an account at an identity provider.
type provider struct {
	*Endpoint
	at *upstream.Provider
}

// UseProviders lets people sign in with the identity providers that configs describe, at a server with that issuer.
// seal and open encrypt what is stored of their accounts there (keys.Master). It returns an error if a provider puts
// people into a group that does not exist.
func (e *Endpoint) UseProviders(ctx context.Context, configs []upstream.Config, issuer string,
	seal func(place string, plain []byte) (string, error), open func(place, sealed string) ([]byte, error)) error {
	e.vault, e.providers = upstream.Vault{Seal: seal, Open: open}, nil
	err := e.DB.View(ctx, func(tx *store.Tx) error {
		missing, err := MissingGroups(tx, configs)
		if err == nil && len(missing) > 0 {
			err = errors.New(missing[0])
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, c := range configs {
		e.providers = append(e.providers, upstream.New(c, issuer, e.DB.Now))
	}
	return nil
}

// MissingGroups returns a sentence for each group that does not exist and into which a provider in configs puts people.
func MissingGroups(tx *store.Tx, configs []upstream.Config) (sentences []string, err error) {
	for _, c := range configs {
		for _, there := range slices.Sorted(maps.Keys(c.GroupMap)) {
			here := c.GroupMap[there]
			_, err := tx.Group(here)
			switch {
			case errors.Is(err, store.ErrNotFound):
				sentences = append(sentences, fmt.Sprintf("login.providers: %s: group_map: %s leads to the group %s, "+
					"which does not exist; create it with: cardea group create %s", c.ID, there, here, here))
			case err != nil:
				return nil, err
			}
		}
	}
	return sentences, nil
}

// StillKnown returns a function that asks the providers of a person whose agent refreshes, which takes at most 10
// seconds. It returns a check for the transaction that decides: nil if the agent may go on, gone if a provider no
// longer knows the person, and a refusal if a provider has been silent for too long. StillKnown returns nil if no
// provider is asked about anybody.
func (e *Endpoint) StillKnown(gone error) func(ctx context.Context, userID string) (func(*store.Tx) error, error) {
	checks := &upstream.Checks{DB: e.DB, Vault: e.vault, Providers: e.providers}
	if !checks.Needed() {
		return nil
	}
	return func(ctx context.Context, userID string) (func(*store.Tx) error, error) {
		verdicts, err := checks.Ask(ctx, userID)
		if err != nil {
			return nil, err
		}
		return func(tx *store.Tx) error {
			err := checks.Confirm(tx, userID, verdicts)
			switch {
			case errors.Is(err, upstream.ErrUnknown):
				return gone
			case errors.Is(err, upstream.ErrSilent):
				return oauth.Refuse(oauth.TemporarilyUnavailable, "the identity provider of the person has not "+
					"answered for too long: try again later")
			}
			return err
		}, nil
	}
}

// Name is the id of the provider in login.providers.
func (m provider) Name() string { return m.at.ID }

// Offer shows the link to the provider.
func (m provider) Offer(page *SignIn) {
	page.Ways = append(page.Ways, Way{Name: m.at.Label(), Path: m.start(destination{page.Request, page.Return}, "")})
	page.Routed = page.Routed || len(m.at.Domains) > 0
}

// Opens reports whether the person has an account at the provider.
func (m provider) Opens(tx *store.Tx, person *identity.User, without string) (bool, error) {
	return hasIdentity(tx, person, m.Name(), without)
}

// hasIdentity reports whether the person has an identity at a provider besides the one with the id without.
func hasIdentity(tx *store.Tx, person *identity.User, providerID, without string) (bool, error) {
	all, err := tx.Identities(person.ID)
	return slices.ContainsFunc(all, func(i *identity.Identity) bool {
		return i.Provider == providerID && i.ID != without
	}), err
}

// Routes returns the routes by which a browser goes to the provider and comes back.
func (m provider) Routes() []web.Route {
	path := "/login/" + m.at.ID
	return []web.Route{
		{Path: path, Methods: web.Methods{"GET": m.Pages.HTML(m.Start)}, Caller: web.People},
		{Path: path + "/callback", Methods: web.Methods{"GET": m.Pages.HTML(m.Callback)}, Caller: web.People},
	}
}

// providerOf returns the provider at which people with such an address sign in, or nil. key is the identity.EmailKey of
// the address.
func (e *Endpoint) providerOf(key string) *upstream.Provider {
	for _, p := range e.providers {
		if p.Serves(key) {
			return p
		}
	}
	return nil
}

// start returns the path at which the way to the provider begins. email is the address of the person, or "".
func (m provider) start(to destination, email string) string {
	query := url.Values{}
	for name, value := range map[string]string{"request": to.request, "return": to.back, "login_hint": email} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(query) == 0 {
		return "/login/" + m.at.ID
	}
	return "/login/" + m.at.ID + "?" + query.Encode()
}

// trip is what a browser carries to the provider and back, sealed. It proves that the browser that comes back is the
// one that began, and for which sign-in.
type trip struct {
	BegunAt  time.Time `json:"at"`
	BoundTo  string    `json:"browser"` // web.Browser.Hash
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Request  string    `json:"request,omitempty"` // hash of the sealed request, which follows the trip
	Back     string    `json:"back,omitempty"`
	Connect  string    `json:"connect,omitempty"` // id of the user whose account is connected; "": a sign-in
	// Invitation is the Hash of the invitation whose account is made, and Name what the person wants to be called; "":
	// a sign-in.
	Invitation string `json:"invitation,omitempty"`
	Name       string `json:"name,omitempty"`
	// MaxAge and Fresh are what the authorization request asks for: a sign-in of the last so many seconds, or a new
	// one.
	MaxAge *int64 `json:"max_age,omitempty"`
	Fresh  bool   `json:"anew,omitempty"`

	to destination // where it leads; not sealed, because the request follows the trip
	// hash is that of what came back. It stands for the sign-in until expiresAt, and is spent. Both are known only when
	// the browser is back.
	hash      string
	expiresAt time.Time
}

// lead sets where the trip leads, and reports whether request, which came back with it, is the one it began for.
func (t *trip) lead(request string) (ok bool) {
	hash := ""
	if request != "" {
		hash = oauth.Hash(request)
	}
	t.to = destination{request: request, back: t.Back}
	return hash == t.Request
}

// purpose is the purpose for which trips are sealed, of which each provider has its own.
func (m provider) purpose() string { return "sign-in with " + m.at.ID }

// tripLifetime is how long a trip may take.
const tripLifetime = interaction.Lifetime

// Start answers GET /login/{provider}: it sends the browser to the provider.
func (m provider) Start(r *http.Request) (web.Answer, error) {
	query, v, err := m.visit(r, m.event(""))
	if err != nil {
		return nil, err
	}
	to := destinationOf(query)
	t := m.trip(v, to)
	going := upstream.Trip{Nonce: t.Nonce, Verifier: t.Verifier, LoginHint: query.Get("login_hint"),
		Again: v.SignedIn()}
	if to.request != "" {
		a, elsewhere, err := m.resume(r, to.request, m.event(""))
		if err != nil || elsewhere != nil {
			return elsewhere, err
		}
		t.Request = oauth.Hash(to.request)
		t.MaxAge, t.Fresh = a.MaxAge, a.PromptLogin
		going.MaxAge, going.Again = a.MaxAge, going.Again || a.PromptLogin
		if going.LoginHint == "" {
			going.LoginHint = a.LoginHint
		}
	}
	if going.LoginHint = strings.TrimSpace(going.LoginHint); len(going.LoginHint) > identity.MaxEmail {
		going.LoginHint = ""
	}
	answer, err := m.leave(r, v, t, going)
	if err != nil {
		return m.refused(r, v, to, err)
	}
	return answer, nil
}

// trip returns a new trip of the browser of v.
func (m provider) trip(v interaction.Visitor, to destination) trip {
	return trip{BegunAt: m.DB.Now(), BoundTo: v.Browser.Hash(), Back: to.back, to: to,
		Nonce: rand.Text(), Verifier: oauth.NewSecret("")}
}

// leave sends the browser of v to the provider. It returns an upstream.Error if the provider does not answer.
func (m provider) leave(r *http.Request, v interaction.Visitor, t trip, going upstream.Trip) (web.Answer, error) {
	sealed, err := m.Desk.Sealer.SealJSON(m.purpose(), t)
	if err != nil {
		return nil, err
	}
	if going.State = sealed; t.to.request != "" {
		going.State += "." + t.to.request // which is sealed already
	}
	location, err := m.at.Start(r.Context(), going)
	if err != nil {
		return nil, err
	}
	return web.WithCookie(web.SeeOther(location), v.Browser.Cookie()), nil
}

// arrived returns the trip of a browser that comes back. It refuses a trip that was not begun here, by this browser,
// with this provider, or that took too long.
func (m provider) arrived(v interaction.Visitor, state string) (t trip, err error) {
	sealed, request, _ := strings.Cut(state, ".")
	if err := m.Desk.Sealer.OpenJSON(m.purpose(), sealed, &t); err != nil {
		return trip{}, errTrip
	}
	t.hash, t.expiresAt = oauth.Hash(state), t.BegunAt.Add(tripLifetime)
	switch {
	case !t.lead(request):
		return trip{}, errTrip
	case !v.Browser.Is(t.BoundTo):
		return trip{}, errOtherBrowser
	case !m.DB.Now().Before(t.expiresAt):
		return trip{}, errLongTrip
	}
	return t, nil
}

var (
	errTrip = oauth.Refuse(oauth.AccessDenied,
		"this sign-in was not begun here: start again from the application")
	errOtherBrowser = oauth.Refuse(oauth.AccessDenied,
		"this sign-in was begun in another browser, or this one has forgotten it: start again from the application")
	errLongTrip = oauth.Refuse(oauth.AccessDenied, "this sign-in took too long: start again from the application")
	errMoved    = oauth.Refuse(oauth.AccessDenied, "your account here has changed in the meantime: sign in again")
)

// Callback answers GET /login/{provider}/callback, to which the provider sends the browser back.
func (m provider) Callback(r *http.Request) (web.Answer, error) {
	query, v, err := m.visit(r, m.event(""))
	if err != nil {
		return nil, err
	}
	t, err := m.arrived(v, query.Get("state"))
	if err != nil {
		return m.refused(r, v, destination{}, err)
	}
	if answer, err := m.over(r, v, t); answer != nil || err != nil {
		return answer, err
	}
	who, err := m.at.Finish(r.Context(), query, t.Nonce, t.Verifier)
	if t.Connect != "" {
		if err == nil {
			err = m.connect(r, v, t, who)
		}
		return m.Connected(r, v, m.refusal(err))
	}
	if t.Invitation != "" {
		var answer web.Answer
		if err == nil {
			answer, err = m.accept(r, v, t, who)
		}
		if err != nil {
			return m.Invitations.Refused(r, v, m.at.Label(), m.refusal(err))
		}
		return answer, nil
	}
	if err != nil {
		return m.refused(r, v, t.to, err)
	}
	answer, err := m.enter(r, v, t, who)
	if err != nil {
		return m.refused(r, v, t.to, err)
	}
	return answer, nil
}

// over returns the page that says where to go on if a sign-in is over already, because the page was loaded again. It
// returns nil if the sign-in goes on.
func (e *Endpoint) over(r *http.Request, v interaction.Visitor, t trip) (web.Answer, error) {
	var userID string
	err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
		userID, err = tx.SpentSignIn(t.hash)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case v.PersonID() != userID:
		page := Over{Next: "/login?" + url.Values{"request": {t.to.request}, "return": {t.to.back}}.Encode()}
		return page.Page().WithStatus(http.StatusForbidden), nil
	case t.to.request != "":
		return Over{Email: v.Person.Label(), Next: e.next(t.to.request)}, nil
	}
	return Over{Email: v.Person.Label(), Next: t.to.back}, nil
}

// enter signs in who has proven to have an account at the provider.
func (m provider) enter(r *http.Request, v interaction.Visitor, t trip, who *upstream.Person) (web.Answer, error) {
	now, terms := m.DB.Now(), upstream.Terms{Since: t.BegunAt, MaxAge: t.MaxAge}
	if err := m.at.JudgeTime(terms, t.Fresh, who, now); err != nil {
		return nil, err
	}
	p := Proof{Method: m.at.ID, AMR: []string{"fed"}, At: terms.SignedInAt(who.AuthTime, now),
		Confirm: func(*store.Tx) error { return nil }}
	return m.enterAs(r, v, t, p, func(tx *store.Tx) (*upstream.Entry, error) { return m.at.Find(tx, who) })
}

// enterAs signs in the person whom find finds, with the methods and at the time of p, if p.Confirm does not refuse. It
// spends t.
func (e *Endpoint) enterAs(r *http.Request, v interaction.Visitor, t trip, p Proof,
	find func(*store.Tx) (*upstream.Entry, error)) (web.Answer, error) {
	confirm := p.Confirm
	for range 3 {
		var entry *upstream.Entry
		err := e.DB.View(r.Context(), func(tx *store.Tx) (err error) {
			entry, err = find(tx)
			return err
		})
		if err != nil {
			return nil, err
		}
		p.Person, p.Event = entry.User, audit.SignIn(entry.User.ID).With("provider", p.Method)
		p.Confirm = func(tx *store.Tx) error {
			if err := confirm(tx); err != nil {
				return err
			}
			if err := entry.Enter(tx, e.vault); err != nil {
				return err
			}
			return tx.SpendSignIn(t.hash, entry.User.ID, t.expiresAt)
		}
		answer, err := e.arrive(r, t.to, p)
		switch {
		case errors.Is(err, store.ErrConflict): // the page was loaded twice at once
			return e.over(r, v, t)
		case !errors.Is(err, upstream.ErrChanged):
			return answer, err
		}
	}
	return nil, errMoved
}

// event returns the audit event of a sign-in with the provider.
func (m provider) event(userID string) audit.Event {
	return audit.SignIn(userID).With("provider", m.at.ID)
}

// refused records a refusal and returns the sign-in page with a sentence that says why, so that there is a way on.
func (m provider) refused(r *http.Request, v interaction.Visitor, to destination, err error) (web.Answer, error) {
	event := m.event("")
	var failed *upstream.Error
	if errors.As(err, &failed) {
		event = event.With("cause", failed.Cause())
	}
	return m.backToSignIn(r, v, to, event, m.refusal(err))
}

// refusal returns the refusal that a failure of the provider is, and otherwise err.
func (m provider) refusal(err error) error {
	var failed *upstream.Error
	if !errors.As(err, &failed) {
		return err
	}
	code, status := oauth.AccessDenied, http.StatusForbidden
	if failed.Kind == upstream.Unreachable {
		code, status = oauth.TemporarilyUnavailable, http.StatusServiceUnavailable
	}
	return oauth.RefuseStatus(status, code, "%s", strings.TrimSuffix(failed.Sentence(), "."))
}

// backToSignIn records a refusal and returns the sign-in page, which says why it is shown again.
func (e *Endpoint) backToSignIn(r *http.Request, v interaction.Visitor, to destination,
	event audit.Event, err error) (web.Answer, error) {
	refusal, err := e.Pages.Refused(r, event, err)
	if err != nil {
		return nil, err
	}
	values := url.Values{}
	if to.request != "" {
		values.Set("request", to.request)
	}
	if to.back != "" {
		values.Set("return", to.back)
	}
	answer, err := e.form(r, v, values, "", web.Sentence(refusal.Description))
	if err != nil {
		return nil, err
	}
	return web.WithRefusal(answer, refusal), nil
}
