package store

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Parties are the client, the resource and the person of a token, a code or a consent, as they are stored at one
// moment. One that does not exist is nil. They are shared: do not change them. client.Directory decides whether they
// are still allowed.
type Parties struct {
	Client   *oauth.Client
	Resource *oauth.Resource
	User     *identity.User // only its ID, Email and DisabledAt
	Blocks   []*oauth.Block
	// Groups are the names of those groups of User that matter to Resource.
	Groups []string
	// Approval is that of User for Client, if Client is not approved for everybody; Tx.Approval reads it.
	Approval Approval
}

// partyColumns are the columns that are read of the parties. The versions show whether the client and the resource in
// memory are up to date.
const partyColumns = `(SELECT version FROM versions WHERE kind = 'clients'),
	(SELECT version FROM versions WHERE kind = 'resources'),
	users.id, users.email, users.disabled_at`

// partyRow is the destination to which partyColumns are scanned.
type partyRow struct {
	clients, resources int64
	user               identity.User
}

func (p *partyRow) fields() []any {
	return []any{&p.clients, &p.resources, maybe{&p.user.ID}, maybe{&p.user.Email}, instant{&p.user.DisabledAt}}
}

// Parties returns the client with the given id, the resource with the given id or identifier, and the person with the
// given id.
func (tx *Tx) Parties(clientID, resource, userID string) (*Parties, error) {
	p := new(partyRow)
	err := tx.row("SELECT "+partyColumns+" FROM (SELECT 1 AS one) AS one LEFT JOIN users ON users.id = $1",
		args{userID}, p.fields()...)
	if err != nil {
		return nil, err
	}
	return tx.parties(p, clientID, resource)
}

// GrantParties returns the grant with the given id, live or not, and its parties. It returns ErrNotFound if there is no
// such grant. Its parties may have been deleted.
func (tx *Tx) GrantParties(id string) (*oauth.Grant, *Parties, error) {
	g, p := new(oauth.Grant), new(partyRow)
	err := tx.row("SELECT "+grantColumns+", "+partyColumns+" FROM grants LEFT JOIN users ON users.id = "+
		"grants.user_id WHERE grants.id = $1",
		args{id}, append(grantFields(g), p.fields()...)...)
	if err != nil {
		return nil, nil, err
	}
	parties, err := tx.parties(p, g.ClientID, g.ResourceID)
	return g, parties, err
}

// TokenParties returns the grant that an access token belongs to, or nil for a client's own token, and the parties. It
// reads only the grant's id, client, user, resource, Method, RevokedAt and session, because resources call it for every
// request. revoked reports whether the token was revoked by RevokeToken. It returns ErrNotFound if there is no such
// grant.
func (tx *Tx) TokenParties(claims *oauth.Claims) (g *oauth.Grant, parties *Parties, revoked bool, err error) {
	const columns = partyColumns + ", (SELECT COUNT(*) FROM revoked_tokens WHERE jti = $1)"
	p, n := new(partyRow), 0
	id := claims.GrantID()
	if id == "" {
		err = tx.row("SELECT "+columns+" FROM (SELECT 1 AS one) AS one LEFT JOIN users ON users.id = ''",
			args{claims.ID}, append(p.fields(), &n)...)
		if err == nil {
			parties, err = tx.parties(p, claims.ClientID, claims.Audience)
		}
		return nil, parties, n > 0, err
	}
	g = new(oauth.Grant)
	err = tx.row("SELECT grants.id, grants.client_id, grants.client_incarnation, grants.user_id, grants.resource_id, "+
		"grants.method, grants.revoked_at, "+sessionColumns+", "+columns+
		" FROM grants LEFT JOIN users ON users.id = grants.user_id WHERE grants.id = $2", args{claims.ID, id},
		append([]any{&g.ID, &g.ClientID, &g.ClientIncarnation, &g.UserID, &g.ResourceID, &g.Method,
			instant{&g.RevokedAt}, &g.SessionID, instant{&g.SessionEndsAt}}, append(p.fields(), &n)...)...)
	if err == nil {
		parties, err = tx.parties(p, g.ClientID, g.ResourceID)
	}
	return g, parties, n > 0, err
}

func (tx *Tx) parties(p *partyRow, clientID, resource string) (*Parties, error) {
	parties := new(Parties)
	if p.user.ID != "" {
		parties.User = &p.user
	}
	var err error
	if parties.Client, err = tx.clientAt(clientID, p.clients); err != nil {
		return nil, err
	}
	if parties.Blocks, err = tx.blocksAt(p.clients); err != nil {
		return nil, err
	}
	if parties.Resource, err = tx.resourceAt(resource, p.resources); err != nil {
		return nil, err
	}
	if parties.User != nil && parties.Resource != nil {
		parties.Groups, err = tx.memberOf(parties.User.ID, parties.Resource.Limiting())
	}
	return parties, err
}

// memberOf returns those of the named groups in which a person is. It asks nothing if no group is named.
func (tx *Tx) memberOf(userID string, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	places, values := make([]string, len(names)), args{userID}
	for i, name := range names {
		places[i], values = "$"+strconv.Itoa(i+2), append(values, name)
	}
	return all(tx, "SELECT g.name FROM groups g WHERE g.name IN ("+strings.Join(places, ", ")+") AND EXISTS "+
		"(SELECT 1 FROM group_members m WHERE m.group_id = g.id AND m.user_id = $1)", values,
		func(scan func(...any) error) (name string, err error) { return name, scan(&name) })
}

// clientAt returns the client with the given id, or nil if there is none. version is the version of Clients in this
// transaction: the client comes from memory if it is not older there.
func (tx *Tx) clientAt(id string, version int64) (*oauth.Client, error) {
	if known := tx.db.clients.find(id); known != nil && known.version >= version &&
		!slices.Contains(tx.touched, Clients) {
		return known.value, nil
	}
	c, err := tx.Client(id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if tx.readOnly { // otherwise it may not be committed yet
		tx.db.clients.keep(&versioned[*oauth.Client]{c, version})
	}
	return c, nil
}

// resourceAt is like clientAt, for a resource by its id or identifier.
func (tx *Tx) resourceAt(idOrIdentifier string, version int64) (*oauth.Resource, error) {
	known := tx.db.catalog.value.Load()
	if known == nil || known.version < version || slices.Contains(tx.touched, Resources) {
		resources, err := tx.Resources()
		if err != nil {
			return nil, err
		}
		fresh := &versioned[[]*oauth.Resource]{resources, version}
		if tx.readOnly {
			tx.db.catalog.value.CompareAndSwap(known, fresh)
		}
		known = fresh
	}
	for _, r := range known.value {
		if r.ID == idOrIdentifier || r.Identifier == idOrIdentifier {
			return r, nil
		}
	}
	return nil, nil
}
