package authorize

import (
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// outside returns the page for a person without entitlement to what the client asks for. Its link back sends the client
// access_denied. It records the refusal if record is true.
func (e *Endpoint) outside(r *http.Request, a *interaction.Authorization, record bool) (web.Answer, error) {
	if record {
		event := audit.Consent(a.Client.ID, a.Person.ID, a.Resource.Identifier, "")
		err := e.Strangers.Refuse(r, event, interaction.ErrNotEntitled)
		if !errors.Is(err, interaction.ErrNotEntitled) {
			return nil, err
		}
	}
	refusal, _ := oauth.AsRefusal(interaction.ErrNotEntitled)
	held, err := e.Desk.Hold(a.Visitor, a.Reply, refusal)
	if err != nil {
		return nil, err
	}
	page := Outside{
		Client: a.Card(), Email: a.Person.Label(),
		Resource: a.ResourceCard(),
		Request:  a.Sealed, Held: held, CSRF: e.Pages.Token(a.Browser, returnPurpose),
	}
	return web.WithCookie(web.WithRefusal(page, refusal), a.Browser.Cookie()), nil
}
