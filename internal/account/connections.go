package account

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// connectionSection is where the person connects accounts elsewhere with which they sign in here, and disconnects them.
type connectionSection struct{ *Endpoint }

func (s connectionSection) routes() []web.Route {
	return []web.Route{
		route("/account/security/connect/{id}", nil, s.change("connect", s.connect)),
		route("/account/security/connections/{id}/disconnect", nil, s.change("disconnect", s.disconnect)),
	}
}

// connections is what the template of the section shows.
type connections struct {
	Have       []connection
	More       []login.Elsewhere // where an account can be connected
	Connect    string            // CSRF token of the forms for More
	Disconnect string            // CSRF token of the forms for Have
}

// connection is an account elsewhere that is connected.
type connection struct {
	ID    string // of the identity
	Where string // name of the provider
	Email string // its address there; "": none
	Since moment
	Used  moment
	Last  bool // the person cannot sign in without it
}

func (s connectionSection) show(v *visit) (template.HTML, error) {
	page := connections{Connect: v.CSRF("connect"), Disconnect: v.CSRF("disconnect")}
	places := s.Login.Elsewhere()
	err := v.view(func(tx *store.Tx) error {
		have, err := tx.Identities(v.Person.ID)
		if err != nil {
			return err
		}
		for _, place := range places {
			there := func(i *identity.Identity) bool { return i.Provider == place.ID }
			if place.Connects && !slices.ContainsFunc(have, there) {
				page.More = append(page.More, place)
			}
		}
		for _, i := range have {
			c := connection{ID: i.ID, Where: i.Provider, Email: i.Email,
				Since: v.moment(i.CreatedAt), Used: v.moment(i.UsedAt)}
			for _, place := range places {
				if place.ID == i.Provider {
					c.Where = place.Name
				}
			}
			others, err := s.Login.CanSignInWithout(tx, v.Person, i.ID)
			if err != nil {
				return err
			}
			c.Last = !others
			page.Have = append(page.Have, c)
		}
		return nil
	})
	if err != nil || len(page.Have)+len(page.More) == 0 {
		return "", err
	}
	return v.part("security-connections.html", page)
}

// connect redirects the person to a provider. It needs a recent sign-in, and the second factor if the person has one,
// because the account at the provider signs the person in from then on.
func (s connectionSection) connect(v *visit, _ url.Values) (web.Answer, error) {
	if _, elsewhere, err := v.owner("/account/security"); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	answer, err := s.Login.Connect(v.Request, v.Visitor, v.id())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errNotFound
	case oauth.IsRefusal(err):
		return s.Connected(v.Request, v.Visitor, err)
	}
	return answer, err
}

// Connected answers a person who comes back from a provider to connect an account there (login.Endpoint.Connected).
func (e *Endpoint) Connected(r *http.Request, visitor interaction.Visitor, err error) (web.Answer, error) {
	if err == nil {
		return done("/account/security", "connected")
	}
	refusal, err := e.Pages.Refused(r, audit.Identity("connect", visitor.PersonID()), err)
	if err != nil {
		return nil, err
	}
	if !visitor.SignedIn() {
		return web.SeeOther("/login?return=/account/security"), nil
	}
	v := &visit{Request: r, Visitor: visitor, e: e, query: url.Values{}}
	return v.securityPage(sentence(refusal), refusal.Status())
}

// disconnect ends a connection, and the person's sessions in other browsers, because one of them may have begun
// with it.
func (s connectionSection) disconnect(v *visit, _ url.Values) (web.Answer, error) {
	if _, elsewhere, err := v.owner("/account/security"); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	err := v.update(func(tx *store.Tx) error {
		u, err := tx.LockUser(v.Person.ID)
		if err != nil {
			return err
		}
		if err := s.Login.Disconnect(tx, u, v.id()); err != nil {
			return err
		}
		_, err = tx.EndOtherSessions(u.ID, v.Session.Hash)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errNotFound
	case errors.Is(err, login.ErrLastAccount):
		return v.securityPage(sentence(err), http.StatusConflict)
	case err != nil:
		return nil, err
	}
	return done("/account/security", "connection-ended")
}
