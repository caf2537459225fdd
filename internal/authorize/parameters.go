package authorize

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// Bounds in bytes: of state, beyond which a request is refused, and of login_hint,
// beyond which it is ignored, for no e-mail address is as long. Both travel in the
// URL of the pages.
const (
	maxState = 4096
	maxHint  = 320
)

// parameters are those of one request, from the query of a GET or the body of a
// POST. Empty ones count as absent (RFC 6749 §3.1).
type parameters struct {
	values url.Values
}

func read(r *http.Request) (*parameters, error) {
	var values url.Values
	var err error
	if r.Method == http.MethodPost {
		values, err = web.FormAsItIs(r)
	} else {
		values, err = web.QueryAsItIs(r)
	}
	if err != nil {
		return nil, err
	}
	return &parameters{values}, nil
}

func (p *parameters) get(name string) string { return p.values.Get(name) }

func (p *parameters) repeated(name string) bool { return len(p.values[name]) > 1 }

// repeatable may be there more than once (RFC 8707 §2).
const repeatable = "resource"

// firstRepeated returns the first name, by alphabet, that is there more than once
// and must not be; "" if there is none (OAuth 2.1 §3.1).
func (p *parameters) firstRepeated() string {
	var names []string
	for name := range p.values {
		if p.repeated(name) && name != repeatable {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return slices.Min(names)
}

// onlyText reports whether all is text but state, which goes back as it came, and
// scope, which has rules of its own.
func (p *parameters) onlyText() bool {
	for name, values := range p.values {
		if name != "state" && name != "scope" && (!web.IsText(name) || slices.ContainsFunc(values, func(value string) bool { return !web.IsText(value) })) {
			return false
		}
	}
	return true
}

func (p *parameters) anyRepeated() bool { return p.firstRepeated() != "" }

// checkPrompt reads prompt and max_age (OpenID Connect Core §3.1.2.1).
func checkPrompt(q *interaction.Request, p *parameters) error {
	prompts := strings.Fields(p.get("prompt"))
	for _, prompt := range prompts {
		switch prompt {
		case "none":
			q.PromptNone = true
		case "login":
			q.PromptLogin = true
		case "consent", "select_account": // the consent page shows the account, and offers another
			q.PromptConsent = true
		default:
			return oauth.Refuse(oauth.InvalidRequest, "prompt must be made of none, login, consent, select_account")
		}
	}
	if q.PromptNone && len(prompts) > 1 {
		return oauth.Refuse(oauth.InvalidRequest, "prompt none stands alone")
	}
	if text := p.get("max_age"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 32)
		if err != nil || seconds < 0 {
			return oauth.Refuse(oauth.InvalidRequest, "max_age must be a number of seconds")
		}
		q.MaxAge = &seconds
	}
	return nil
}

// grantable returns the scopes that the person will be asked for (RFC 6749 §3.3).
func grantable(target *oauth.Resource, c *oauth.Client, asked string) (scope.Set, error) {
	requested, err := oauth.ParseScope(asked)
	if err != nil {
		return nil, err
	}
	return target.Grantable(c, requested, c.May(oauth.RefreshToken))
}
