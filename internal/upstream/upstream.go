// Package upstream signs people in with their accounts at identity providers: OpenID Connect issuers and GitHub. It is
// the relying party: it sends the browser there, checks what comes back, and says whose account here it is.
package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/cardea-auth/cardea/internal/audit"
)

// Provider is an identity provider. Make it with New; it is safe for concurrent use.
type Provider struct {
	Config
	// RedirectURI is where the provider sends the browser back to. Each provider has its own, so that the answer of one
	// cannot be taken for that of another (RFC 9700 §4.4).
	RedirectURI string

	client *http.Client
	now    func() time.Time

	mu       sync.Mutex // held while the metadata is read
	found    *metadata
	failure  error // of the last attempt
	failedAt time.Time
}

// New returns the provider that c describes, for the server with the given issuer. It does not connect to the provider.
func New(c Config, issuer string, now func() time.Time) *Provider {
	return &Provider{Config: c, RedirectURI: issuer + "/login/" + c.ID + "/callback", client: newClient(),
		now: now}
}

// Person is who the provider says has signed in.
type Person struct {
	Issuer, Subject string
	Email           string // an address as the provider has it; "": none
	// Verified reports whether the provider says that the address is the person's. Everything but a JSON true means no.
	Verified bool
	Name     string
	Groups   []string // values of Config.GroupsClaim
	// AuthTime is when the person signed in there, in seconds since 1970; nil: the provider does not say.
	AuthTime   *int64
	credential credential
}

// credential is the token with which the provider is asked about the person later.
type credential struct {
	Refresh string    `json:"refresh,omitempty"`
	Access  string    `json:"access,omitempty"`
	Until   time.Time `json:"until,omitzero"` // when Access expires; zero: unknown
}

// credentialOf returns the credential of the person to whom a provider gave t.
func credentialOf(t *oauth2.Token) credential {
	return credential{Refresh: t.RefreshToken, Access: t.AccessToken, Until: t.Expiry}
}

// Trip holds what differs between the authorization requests with which browsers are sent to the provider.
type Trip struct {
	State, Nonce, Verifier string
	LoginHint              string // address of the person; "": not known
	Again                  bool   // the provider is to ask who the person is, even if it knows
	// MaxAge is how many seconds ago the person may have signed in there; nil: any number.
	MaxAge *int64
}

// JudgeTime refuses a person who did not sign in at the provider as recently as terms ask for, or without a time if
// terms ask for one (OpenID Connect Core §3.1.3.7). fresh is whether the provider was asked to let the person sign in
// again: if it does not say when that was, JudgeTime then takes it to be now.
func (p *Provider) JudgeTime(terms Terms, fresh bool, who *Person, now time.Time) error {
	if fresh && who.AuthTime != nil {
		terms.MaxAge = new(int64)
	}
	switch fault, _ := terms.judge(who.AuthTime, now); fault {
	case untold:
		return p.fail(TooOld, "the ID token has no auth_time, although max_age was sent")
	case impossible:
		return p.fail(Invalid, "auth_time of the ID token is not a time in the past")
	case tooOld:
		return p.fail(TooOld, "auth_time of the ID token is longer ago than the request allows")
	default:
		return nil
	}
}

// Kind says whose fault an Error is.
type Kind string

// The kinds of an Error.
const (
	Unreachable Kind = "unreachable" // the provider does not answer, or not as it should
	Rejected    Kind = "rejected"    // the provider does not accept this server
	Invalid     Kind = "invalid"     // what came back does not prove who the person is
	Declined    Kind = "declined"    // the person did not sign in there
	TooOld      Kind = "too_old"     // the person signed in there too long ago, or it does not say when
)

// Error is why a sign-in with a provider failed.
type Error struct {
	Provider *Provider
	Kind     Kind
	Err      error // for operators; it has no secret
}

// Error says for operators what went wrong.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Provider.ID, e.cause()) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// cause returns the text of Err, as one line.
func (e *Error) cause() string {
	var failed *oauth2.RetrieveError
	if errors.As(e.Err, &failed) { // its own text has the whole answer
		return audit.Plain("the token endpoint answered " + failed.Response.Status + " " + failed.ErrorCode + " " +
			failed.ErrorDescription)
	}
	return audit.Plain(e.Err.Error())
}

// Cause returns what went wrong for the audit log and for operators, as one line of at most 300 characters.
func (e *Error) Cause() string {
	text := []rune(e.cause())
	return string(text[:min(len(text), 300)])
}

// Sentence tells the person what to do.
func (e *Error) Sentence() string {
	switch e.Kind {
	case Unreachable:
		return e.Provider.Label() + " cannot be reached at this moment, so you cannot sign in with it. " +
			"Try again in a few minutes."
	case Rejected:
		return e.Provider.Label() +
			" does not accept this server. Ask its administrator, who finds the reason in the audit log."
	case Declined:
		return "You did not sign in with " + e.Provider.Label() + ". Try again, or sign in another way."
	case TooOld:
		return "The application asks for a sign-in of this moment, and " + e.Provider.Label() +
			" does not say that you signed in just now. Try again, or sign in another way."
	default:
		return "The answer of " + e.Provider.Label() + " was not valid, so you are not signed in. Try again."
	}
}

func (p *Provider) fail(kind Kind, format string, a ...any) error {
	return &Error{p, kind, fmt.Errorf(format, a...)}
}

// failed returns the Error of a request to the provider that failed with err.
func (p *Provider) failed(err error) error {
	var answered *oauth2.RetrieveError
	switch {
	case errors.As(err, &answered) &&
		slices.Contains([]string{"invalid_grant", "bad_verification_code"}, answered.ErrorCode):
		return &Error{p, Invalid, err}
	case errors.As(err, &answered) && answered.Response.StatusCode < 500:
		return &Error{p, Rejected, err}
	}
	return &Error{p, Unreachable, err}
}

// declined are the errors that mean that the person did not sign in.
var declined = []string{"access_denied", "user_cancelled_login", "login_required", "interaction_required",
	"consent_required"}

// returned returns an error for what the provider says in the query with which the browser comes back, and for an iss
// that is not the provider's (RFC 9207 §2.4). issuer "" means that none is known.
func (p *Provider) returned(query url.Values, issuer string, required bool) error {
	iss := query.Get("iss")
	switch {
	case iss != "" && issuer != "" && iss != issuer:
		return p.fail(Invalid, "the response has iss %.200q, not %q", iss, issuer)
	case iss == "" && required:
		return p.fail(Invalid, "the response has no iss, although the provider promises one")
	}
	code := query.Get("error")
	switch {
	case slices.Contains(declined, code):
		return p.fail(Declined, "the provider answered %s %.200s", code, query.Get("error_description"))
	case code == "server_error", code == "temporarily_unavailable":
		return p.fail(Unreachable, "the provider answered %s %.200s", code, query.Get("error_description"))
	case code != "":
		return p.fail(Rejected, "the provider answered %.40s %.200s", code, query.Get("error_description"))
	case query.Get("code") == "":
		return p.fail(Invalid, "the response has no code")
	}
	return nil
}

// Label returns the name of the provider for people.
func (c Config) Label() string {
	if c.Name != "" {
		return c.Name
	}
	if name := presets[c.Preset].name; name != "" {
		return name
	}
	return c.ID
}

// Serves reports whether the domain of an address is one of Domains. key is the identity.EmailKey of the address.
func (c Config) Serves(key string) bool {
	at := strings.LastIndexByte(key, '@')
	return at > 0 && slices.Contains(c.Domains, key[at+1:])
}
