package upstream

import (
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// Answer is what an application with its own sign-in page says about a person.
type Answer struct {
	Sub           string          `json:"sub,omitempty"`
	Email         string          `json:"email,omitempty"`
	EmailVerified json.RawMessage `json:"email_verified,omitempty"` // all but true is false
	Name          string          `json:"name,omitempty"`
	Groups        *[]string       `json:"groups,omitempty"` // nil: they stay as they are
	AMR           []string        `json:"amr,omitempty"`
	AuthTime      *int64          `json:"auth_time,omitempty"`
	Error         string          `json:"error,omitempty"` // instead of all others: access_denied
}

// maxSaid is the longest answer of an application, in bytes.
const maxSaid = 64 << 10

// ReadAnswer returns the answer that an application has sent. It refuses one that is not complete.
func ReadAnswer(body io.Reader) (*Answer, error) {
	text, err := io.ReadAll(io.LimitReader(body, maxSaid+1))
	if err != nil || len(text) > maxSaid {
		return nil, oauth.Refuse(oauth.InvalidRequest,
			"the body could not be read, or is longer than %d bytes", maxSaid)
	}
	said := new(Answer)
	if err := json.Unmarshal(text, said); err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest,
			`the body is not a JSON object like {"sub":"…","email":"…"}: %v`, err)
	}
	switch {
	case said.Error == "" && said.Sub == "":
		return nil, oauth.Refuse(oauth.InvalidRequest,
			"sub is missing: send the id of the person in your application, or error")
	case said.Error != "" && said.Sub != "":
		return nil, oauth.Refuse(oauth.InvalidRequest, "error and sub exclude each other: send one of them")
	case said.Error != "" && said.Error != string(oauth.AccessDenied):
		return nil, oauth.Refuse(oauth.InvalidRequest, "error must be access_denied")
	case len(said.Sub) > 255 || !web.IsText(said.Sub):
		return nil, oauth.Refuse(oauth.InvalidRequest, "sub must be text of at most 255 bytes")
	}
	return said, nil
}

// Person returns the person. The Issuer of its id is application.
func (a *Answer) Person(application string) *Person {
	who := &Person{Issuer: application, Subject: a.Sub, Email: a.Email,
		Verified: string(a.EmailVerified) == "true", Name: a.Name}
	if a.Groups != nil {
		who.Groups = *a.Groups
	}
	return who
}

// GroupMap returns a Config.GroupMap in which the groups of the answer are those with the same name here.
func (a *Answer) GroupMap() map[string]string {
	if a.Groups == nil {
		return nil
	}
	same := map[string]string{}
	for _, name := range *a.Groups {
		same[name] = name
	}
	return same
}

// amrValue is the form of the values of RFC 8176.
var amrValue = regexp.MustCompile(`^[a-z]{2,8}$`)

// Methods returns how the person signed in (RFC 8176): at the application, and there as it says.
func (a *Answer) Methods() []string {
	amr := []string{"fed"}
	for _, value := range a.AMR {
		if amrValue.MatchString(value) && len(amr) < 8 && !slices.Contains(amr, value) {
			amr = append(amr, value)
		}
	}
	return amr
}

// Terms are the conditions of an answer.
type Terms struct {
	Since  time.Time `json:"since"`             // when the application was asked
	MaxAge *int64    `json:"max_age,omitempty"` // seconds since the sign-in there; nil: any number
}

// ahead is how far the application's clock may be ahead, and behind how far it may be behind, with the fraction of a
// second that auth_time lacks. A clock that is ahead makes no sign-in seem newer than now.
const (
	ahead  = time.Minute
	behind = 2 * time.Second
)

// SignedInAt returns when a person signed in: at authTime, or now if that is nil. The clocks may differ, so a sign-in
// that seems to come just before the application was asked followed it.
func (t Terms) SignedInAt(authTime *int64, now time.Time) time.Time {
	if authTime == nil {
		return now
	}
	at := time.Unix(*authTime, 0)
	switch {
	case at.After(now):
		return now
	case at.Before(t.Since) && !at.Before(t.Since.Add(-behind)):
		return t.Since
	}
	return at
}

// Judge refuses an answer in which the person did not sign in at a time in the past, or longer ago than the terms
// allow. A sign-in after the application was asked always is recent enough (OpenID Connect Core §3.1.2.1).
func (t Terms) Judge(a *Answer, now time.Time) error {
	if a.Error != "" {
		return nil
	}
	switch fault, ago := t.judge(a.AuthTime, now); fault {
	case untold:
		return oauth.Refuse(oauth.InvalidRequest,
			"auth_time is missing, and max_age of the login request limits it: send when the person signed in, in "+
				"seconds since 1970")
	case impossible:
		return oauth.Refuse(oauth.InvalidRequest,
			"auth_time is not a time in the past: send when the person signed in, in seconds since 1970")
	case tooOld:
		return oauth.Refuse(oauth.LoginRequired,
			"auth_time is %d seconds ago, and max_age of the login request is %d: let the person sign in again, then "+
				"send the answer", ago, *t.MaxAge)
	default:
		return nil
	}
}

// timing says whether a sign-in is recent enough.
type timing int

const (
	inTime     timing = iota
	untold            // nobody said when it was, and the terms ask for it
	impossible        // it is not a time in the past
	tooOld
)

// judge judges auth_time, and returns how many seconds ago that was.
func (t Terms) judge(authTime *int64, now time.Time) (timing, int64) {
	at := t.SignedInAt(authTime, now)
	ago := int64(now.Sub(at) / time.Second)
	switch {
	case authTime == nil && t.MaxAge == nil:
		return inTime, 0
	case authTime == nil:
		return untold, 0
	case *authTime <= 0, time.Unix(*authTime, 0).After(now.Add(ahead)):
		return impossible, 0
	case t.MaxAge != nil && at.Before(t.Since) && ago > *t.MaxAge:
		return tooOld, ago
	}
	return inTime, ago
}
