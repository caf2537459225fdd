package admin

import (
	"cmp"
	"context"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Grant is what a person has allowed a client to do at a resource, as operators see it.
type Grant struct {
	ID         string `json:"id"`
	ClientID   string `json:"client_id"`
	ClientName string `json:"client_name"` // "" if the client is deleted; the same holds for user and resource
	User       string `json:"user"`        // e-mail address
	UserName   string `json:"user_name"`   // "" also if the person has none
	Resource   string `json:"resource"`    // identifier

	ResourceName string `json:"resource_name"`
	Scope        string `json:"scope"`
	// Duration is how long the person let the client act: "session", "8h", "30d" or "always".
	Duration      string `json:"duration"`
	CreatedAt     Moment `json:"created_at"`
	LastUsedAt    Moment `json:"last_used_at"`
	ExpiresAt     Moment `json:"expires_at"` // unless it is used before; null if it ended with its session
	RevokedAt     Moment `json:"revoked_at"`
	RevokedReason string `json:"revoked_reason"`
}

func viewGrant(g *store.GrantListing) Grant {
	view := Grant{
		ID: g.ID, ClientID: g.ClientID, ClientName: g.ClientName, User: g.UserEmail, UserName: g.UserName,
		Resource: g.Resource, ResourceName: g.ResourceName,
		Scope: g.Scope.String(), CreatedAt: Moment{g.CreatedAt}, LastUsedAt: Moment{g.LastUsedAt},
		ExpiresAt: Moment{g.ExpiresAt}, RevokedAt: Moment{g.RevokedAt}, RevokedReason: g.RevokedReason,
		Duration: cmp.Or(string(g.Duration), string(oauth.Always)),
	}
	switch {
	case g.SessionID == "" || !g.RevokedAt.IsZero():
	case g.SessionEndsAt.IsZero():
		view.ExpiresAt, view.RevokedReason = Moment{}, "session_ended"
	case g.SessionEndsAt.Before(g.ExpiresAt):
		view.ExpiresAt = Moment{g.SessionEndsAt}
	}
	return view
}

// GrantQuery selects grants. "" matches any.
type GrantQuery struct {
	User     string // id or e-mail address
	Client   string // id
	Resource string // id or identifier
	Live     bool   // only grants that are still in force
}

func (q GrantQuery) filter(tx *store.Tx) (store.GrantFilter, error) {
	filter := store.GrantFilter{Live: q.Live}
	if q.User != "" {
		u, err := findUser(tx, q.User)
		if err != nil {
			return filter, err
		}
		filter.UserID = u.ID
	}
	if q.Client != "" {
		c, err := findClient(tx.Client, q.Client)
		if err != nil {
			return filter, err
		}
		filter.ClientID = c.ID
	}
	if q.Resource != "" {
		r, err := findResource(tx.Resource, q.Resource)
		if err != nil {
			return filter, err
		}
		filter.ResourceID = r.ID
	}
	return filter, nil
}

// Grants returns a page of the grants that match query, and the cursor of the next page, "" if there is none.
func (o *Operations) Grants(ctx context.Context, by Caller, query GrantQuery,
	page store.Page) (views []Grant, next string, err error) {
	err = o.look(ctx, by, Grants, func(tx *store.Tx) error {
		filter, err := query.filter(tx)
		if err != nil {
			return err
		}
		grants, cursor, err := tx.Grants(filter, page)
		views, next, err = viewed(viewGrant, grants, cursor, err)
		return err
	})
	return views, next, err
}

// Grant returns the grant with the given id.
func (o *Operations) Grant(ctx context.Context, by Caller, id string) (view Grant, err error) {
	err = o.look(ctx, by, Grants, func(tx *store.Tx) (err error) {
		view, err = findGrant(tx, id)
		return err
	})
	return view, err
}

func findGrant(tx *store.Tx, id string) (Grant, error) {
	grants, _, err := tx.Grants(store.GrantFilter{ID: id}, store.Page{Limit: 1})
	switch {
	case err != nil:
		return Grant{}, err
	case len(grants) == 0 || id == "":
		return Grant{}, notFound(Grants, id, "there is no grant %s")
	}
	return viewGrant(grants[0]), nil
}

// Revocation is a revoked grant.
type Revocation struct {
	ID            string `json:"id"`
	Revoked       bool   `json:"revoked"` // true if this call revoked it, false if it was revoked before
	RevokedAt     Moment `json:"revoked_at"`
	RevokedReason string `json:"revoked_reason"`
}

// RevokeGrant revokes a grant, so that its tokens are refused from now on. A grant that was already revoked stays as it
// is.
func (o *Operations) RevokeGrant(ctx context.Context, by Caller, id string) (done Revocation, err error) {
	err = o.change(ctx, by, Grants, "grant.revoke", &done, func(tx *store.Tx) (event audit.Event, err error) {
		before, err := findGrant(tx, id)
		if err == nil {
			err = o.matches(before)
		}
		if err != nil {
			return event, err
		}
		revoked, err := tx.RevokeGrant(id, "operator")
		if err != nil {
			return event, err
		}
		g, err := tx.Grant(id)
		if err != nil {
			return event, err
		}
		done = Revocation{ID: g.ID, Revoked: revoked, RevokedAt: Moment{g.RevokedAt}, RevokedReason: g.RevokedReason}
		if revoked {
			event = audit.Grant(g.ID, g.ClientID, g.UserID, "operator").Changed(Revocation{ID: g.ID}, done)
		}
		return event, nil
	})
	return done, err
}
