package authorize

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/scope"
)

// The longest state and login_hint, in bytes, because both travel in the URL of the pages. A request with a longer
// state is refused. A longer login_hint is ignored, because it cannot be an e-mail address.
const (
	maxState = 4096
	maxHint  = identity.MaxEmail
)

// parameters are the parameters of one request, from the query of a GET or the body of a POST. Empty ones count as
// absent (RFC 6749 §3.1).
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

// repeatable is the one parameter that may appear more than once (RFC 8707 §2).
const repeatable = "resource"

// firstRepeated returns the alphabetically first parameter that appears more than once and must not, or "" if there is
// none (OAuth 2.1 §3.1).
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

// onlyText reports whether all parameters are valid text. It does not look at state, which is returned unchanged, and
// at scope, which has its own rules.
func (p *parameters) onlyText() bool {
	for name, values := range p.values {
		if name != "state" && name != "scope" &&
			(!web.IsText(name) || slices.ContainsFunc(values, func(value string) bool { return !web.IsText(value) })) {
			return false
		}
	}
	return true
}

func (p *parameters) anyRepeated() bool { return p.firstRepeated() != "" }

// checkPrompt reads prompt, max_age and acr_values (OpenID Connect Core §3.1.2.1).
func checkPrompt(q *interaction.Request, p *parameters) error {
	prompts := strings.Fields(p.get("prompt"))
	for _, prompt := range prompts {
		switch prompt {
		case "none":
			q.PromptNone = true
		case "login":
			q.PromptLogin = true
		case "consent", "select_account": // the consent page shows the account and offers to change it
			q.PromptConsent = true
		default:
			return oauth.Refuse(oauth.InvalidRequest,
				"prompt must be a list of the values none, login, consent and select_account")
		}
	}
	if q.PromptNone && len(prompts) > 1 {
		return oauth.Refuse(oauth.InvalidRequest, "prompt=none cannot be combined with other values")
	}
	q.TwoFactors = oauth.WantsTwoFactors(p.get("acr_values"))
	if text := p.get("max_age"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 32)
		if err != nil || seconds < 0 {
			return oauth.Refuse(oauth.InvalidRequest, "max_age must be a number of seconds")
		}
		q.MaxAge = &seconds
	}
	return nil
}

// grantable returns the scopes that the person will be asked to allow (RFC 6749 §3.3), and whether the client names
// them.
func grantable(target *oauth.Resource, c *oauth.Client, asked string) (scopes scope.Set, named bool, err error) {
	requested, err := oauth.ParseScope(asked)
	if err != nil {
		return nil, false, err
	}
	scopes, err = target.Grantable(c, requested, c.May(oauth.RefreshToken))
	return scopes, !oauth.OnlyTolerated(requested), err
}
