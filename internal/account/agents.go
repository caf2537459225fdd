package account

import (
	"errors"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// agentRoutes are the page of what the person has allowed, and its forms.
func (e *Endpoint) agentRoutes() []web.Route {
	return []web.Route{
		route("/account", e.show(e.agents), nil),
		route("/account/grants/{id}/revoke", nil, e.change("disconnect", e.disconnect)),
		route("/account/grants/{id}/undo", nil, e.change("undo", e.undo)),
		route("/account/grants/revoke", nil, e.change("disconnect all", e.disconnectAll)),
	}
}

// undoFor is how long a person can take back that they disconnected an agent.
const undoFor = 10 * time.Minute

// agentList is the body of the page of agents.
type agentList struct {
	Agents []agent
	Gone   []agent // that the person disconnected just now
}

// agent is a client as its user sees it: what one consent allowed it.
type agent struct {
	ID       string // of the grant
	Client   interaction.ClientCard
	Resource interaction.ResourceCard
	Scopes   []string // in words
	Since    moment
	LastUsed moment
	From     string // the network address from which it was used last; "" if that is not known
	Until    time.Time
}

func (e *Endpoint) agents(v *visit) (web.Answer, error) {
	var list agentList
	resources, err := e.DB.Resources(v.Context())
	if err != nil {
		return nil, err
	}
	var next string
	err = v.view(func(tx *store.Tx) error {
		grants, cursor, err := tx.Connected(v.Person.ID, v.page())
		if err != nil {
			return err
		}
		gone, err := tx.Disconnected(v.Person.ID, tx.Now().Add(-undoFor))
		next, list.Agents, list.Gone = cursor, v.viewAgents(grants, resources), v.viewAgents(gone, resources)
		return err
	})
	if err != nil {
		return nil, err
	}
	return v.answer(screen{template: "agents.html", title: "Your agents", here: "/account", body: list, next: next})
}

func (v *visit) viewAgents(grants []*store.GrantListing, resources []*oauth.Resource) []agent {
	views := make([]agent, len(grants))
	for i, g := range grants {
		a := viewAgent(g, resources)
		a.Since, a.LastUsed = v.moment(g.CreatedAt), v.moment(g.LastUsedAt)
		views[i] = a
	}
	return views
}

// disconnect ends one grant of the person. If they have ended it before, nothing happens.
func (e *Endpoint) disconnect(v *visit, _ url.Values) (web.Answer, error) {
	err := v.update(func(tx *store.Tx) error {
		g, err := tx.Disconnect(v.Person.ID, v.id())
		if errors.Is(err, store.ErrConflict) { // it has ended, which is what was asked for
			return nil
		}
		if err != nil {
			return err
		}
		return tx.Conclude(audit.Disconnection(g.ID, g.ClientID, g.UserID), nil)
	})
	if errors.Is(err, store.ErrNotFound) {
		err = errNotFound
	}
	if err != nil {
		return nil, err
	}
	return done("/account", "disconnected")
}

func (e *Endpoint) disconnectAll(v *visit, _ url.Values) (web.Answer, error) {
	err := v.update(func(tx *store.Tx) error {
		n, err := tx.DisconnectAll(v.Person.ID)
		if err != nil || n == 0 {
			return err
		}
		return tx.Conclude(audit.DisconnectionOfAll(v.Person.ID, n), nil)
	})
	if err != nil {
		return nil, err
	}
	return done("/account", "disconnected-all")
}

var errNoUndo = oauth.RefuseStatus(409, oauth.InvalidRequest,
	"this can no longer be undone: more than ten minutes have passed, it has ended in another way, or you have "+
		"connected the agent again since")

// undo brings back a grant that the person ended themselves less than undoFor ago. If it is back already, nothing
// happens.
func (e *Endpoint) undo(v *visit, _ url.Values) (web.Answer, error) {
	err := v.update(func(tx *store.Tx) error {
		g, err := tx.Restore(v.Person.ID, v.id(), tx.Now().Add(-undoFor))
		switch {
		case errors.Is(err, store.ErrConflict) && g.RevokedAt.IsZero() && g.Live(tx.Now()):
			return nil // a second click
		case errors.Is(err, store.ErrConflict):
			return tx.Conclude(audit.Restoration(g.ID, g.ClientID, g.UserID), errNoUndo)
		case err != nil:
			return err
		}
		return tx.Conclude(audit.Restoration(g.ID, g.ClientID, g.UserID), nil)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errNotFound
	case errors.Is(err, errNoUndo):
		return v.answer(screen{template: "refused.html", title: "This cannot be undone", here: "/account", status: 409,
			problem: sentence(errNoUndo)})
	case err != nil:
		return nil, err
	}
	return done("/account", "restored")
}
