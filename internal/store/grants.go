package store

import (
	"errors"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

const grantColumns = `grants.id, grants.client_id, grants.user_id, grants.resource_id, grants.redirect_uri, grants.scope, grants.refreshable,
	grants.secret, grants.generation, grants.rotated_at, grants.signed_in_at, grants.amr, grants.created_at, grants.last_used_at,
	grants.expires_at, grants.ends_at, grants.revoked_at, grants.revoked_reason, grants.method, grants.client_incarnation, grants.rotated_from`

// CreateGrant stores a new grant, CreatedAt and all. Its LastUsedAt is zero until
// RedeemGrant, and its ExpiresAt is when its code expires: one that is not
// redeemed by then is over. It sets ClientIncarnation to that of the client as it is
// stored: a grant of a client that is not there is nobody's. ErrConflict if its id is
// taken.
func (tx *Tx) CreateGrant(g *oauth.Grant) error {
	refreshable := 0
	if g.Refreshable {
		refreshable = 1
	}
	err := tx.row(`INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret, generation, rotated_at,
		signed_in_at, amr, created_at, last_used_at, expires_at, ends_at, revoked_at, revoked_reason, method, client_incarnation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
		COALESCE((SELECT incarnation FROM clients WHERE id = $2), 'none')) ON CONFLICT DO NOTHING RETURNING client_incarnation`, args{
		g.ID, g.ClientID, g.UserID, g.ResourceID, g.RedirectURI, g.Scope.String(), refreshable, g.Secret, g.Generation, micros(g.RotatedAt),
		micros(g.SignedInAt), strings.Join(g.AMR, " "), g.CreatedAt.UnixMicro(), micros(g.LastUsedAt),
		earlier(g.ExpiresAt, g.EndsAt), g.EndsAt.UnixMicro(), micros(g.RevokedAt), g.RevokedReason, string(g.Method),
	}, &g.ClientIncarnation)
	if errors.Is(err, ErrNotFound) {
		return ErrConflict
	}
	return err
}

// Grant returns the grant with the given id, live or not. ErrNotFound if there is
// none.
func (tx *Tx) Grant(id string) (*oauth.Grant, error) {
	found, err := all(tx, "SELECT "+grantColumns+" FROM grants WHERE grants.id = $1", args{id}, scanGrant)
	return only(found, err)
}

// GrantFilter says which grants a list shows. The zero GrantFilter shows all.
type GrantFilter struct {
	UserID, ClientID, ResourceID string // "": any
	// Live leaves out those that are revoked, over, or not redeemed.
	Live bool
}

func (f GrantFilter) where(tx *Tx) *where {
	w := new(where)
	if f.UserID != "" {
		w.add("grants.user_id = ?", f.UserID)
	}
	if f.ClientID != "" {
		w.add("grants.client_id = ?", f.ClientID)
	}
	if f.ResourceID != "" {
		w.add("grants.resource_id = ?", f.ResourceID)
	}
	if f.Live {
		w.add("grants.revoked_at IS NULL AND grants.last_used_at IS NOT NULL AND grants.expires_at > ?", micros(tx.now))
	}
	return w
}

// GrantListing is a grant with the names of what it refers to, "" for what is
// gone.
type GrantListing struct {
	oauth.Grant
	UserEmail  string
	ClientName string
	Resource   string // the identifier
}

// Grants returns a page of the grants that filter shows and the cursor of the
// next, "" for none.
func (tx *Tx) Grants(filter GrantFilter, page Page) (grants []*GrantListing, next string, err error) {
	w := filter.where(tx)
	query := "SELECT " + grantColumns + `, users.email, clients.metadata, resources.identifier FROM grants
		LEFT JOIN users ON users.id = grants.user_id LEFT JOIN clients ON clients.id = grants.client_id LEFT JOIN resources ON resources.id = grants.resource_id`
	return paged(tx, query, w, page, "grants.created_at", "grants.id", scanListing,
		func(g *GrantListing) (time.Time, string) { return g.CreatedAt, g.ID })
}

// LiveGrants returns how many grants that filter shows still allow something.
func (tx *Tx) LiveGrants(filter GrantFilter) (n int, err error) {
	filter.Live = true
	w := filter.where(tx)
	err = tx.row("SELECT COUNT(*) FROM grants"+w.String(), w.args, &n)
	return n, err
}

// RevokeUserGrants ends all grants of a person, as RevokeGrant ends one.
func (tx *Tx) RevokeUserGrants(userID, reason string) error {
	return tx.revokeGrants("user_id", userID, reason)
}

// RevokeGrant ends a grant, and with it every code and token that hangs from it,
// and tells whether it did: one that is revoked, or not there, stays as it is. One
// that is over is revoked too, so that a list can say why.
func (tx *Tx) RevokeGrant(id, reason string) (bool, error) {
	n, err := tx.exec("UPDATE grants SET revoked_at = $2, revoked_reason = $3 WHERE id = $1 AND revoked_at IS NULL", args{id, micros(tx.now), reason})
	return n > 0, err
}

// revokeGrants revokes the grants whose column has the given value.
func (tx *Tx) revokeGrants(column, value, reason string) error {
	_, err := tx.exec("UPDATE grants SET revoked_at = $2, revoked_reason = $3 WHERE "+column+" = $1 AND revoked_at IS NULL", args{value, micros(tx.now), reason})
	return err
}

// RedeemGrant notes that the code of a grant was redeemed: generation is that of
// the refresh token that is now issued, 0 for none, and expiresAt when the grant
// ends unless it is refreshed, which is never after its EndsAt; method is how the
// client proved who it is. ErrNotFound if the grant is over, or was redeemed
// before.
func (tx *Tx) RedeemGrant(id string, generation int64, expiresAt time.Time, method oauth.Method) error {
	return tx.one(`UPDATE grants SET generation = $2, last_used_at = $3, expires_at = CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END, method = $5
		WHERE id = $1 AND last_used_at IS NULL AND revoked_at IS NULL AND expires_at > $3`,
		args{id, generation, micros(tx.now), expiresAt.UnixMicro(), string(method)})
}

// RotateGrant makes the refresh token of the next generation the grant's newest,
// if from is its newest now and the grant is live; one statement decides, so of any
// number of callers one succeeds. expiresAt is when it ends unless it is refreshed again, never
// after its EndsAt. It returns the grant as it is then. ErrNotFound if the grant is
// not so: Grant tells why.
func (tx *Tx) RotateGrant(id string, from int64, expiresAt time.Time) (*oauth.Grant, error) {
	found, err := all(tx, `UPDATE grants SET generation = generation + 1, rotated_at = $3, last_used_at = $3, rotated_from = $5,
		expires_at = CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END
		WHERE id = $1 AND generation = $2 AND last_used_at IS NOT NULL AND revoked_at IS NULL AND expires_at > $3
		RETURNING `+grantColumns,
		args{id, from, micros(tx.now), expiresAt.UnixMicro(), tx.Address()}, scanGrant)
	return only(found, err)
}

// consents is how many of a person's consents to one thing ConsentedScopes looks
// at.
const consents = 32

// ConsentedScopes returns the scopes of the live, redeemed grants that a person gave
// a client for a resource with that redirect URI, newest first. Those from before
// the client's redirect URIs or keys changed are not among them, nor those given to
// a client that had the id before. It looks at the newest consents alone, so that
// its cost does not grow with their number.
func (tx *Tx) ConsentedScopes(userID, clientID, resourceID, redirectURI string) ([]scope.Set, error) {
	return all(tx, `SELECT scope FROM (
			SELECT scope, created_at, last_used_at, revoked_at, expires_at, client_incarnation FROM grants
			WHERE user_id = $1 AND client_id = $2 AND resource_id = $3 AND redirect_uri = $4 ORDER BY created_at DESC LIMIT $6
		) AS newest
		WHERE last_used_at IS NOT NULL AND revoked_at IS NULL AND expires_at > $5
		AND EXISTS (SELECT 1 FROM clients WHERE id = $2 AND incarnation = newest.client_incarnation AND COALESCE(changed_at, 0) <= newest.created_at)`,
		args{userID, clientID, resourceID, redirectURI, micros(tx.now), consents},
		func(scan func(...any) error) (set scope.Set, err error) {
			err = scan(words[scope.Set]{&set})
			return set, err
		})
}

// RevokeToken ends one access token before its time; the note of it is kept until
// expiresAt, when the token ends by itself. Doing it twice does it once.
func (tx *Tx) RevokeToken(jti string, expiresAt time.Time) error {
	_, err := tx.exec("INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING", args{jti, expiresAt.UnixMicro()})
	return err
}

// CreateCode stores a new code of a grant that was created before. ErrConflict if
// its hash is taken.
func (tx *Tx) CreateCode(c *oauth.Code) error {
	return tx.create("INSERT INTO codes (hash, grant_id, redirect_uri, challenge, expires_at, spent_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
		args{c.Hash, c.GrantID, c.RedirectURI, string(c.Challenge), c.ExpiresAt.UnixMicro(), micros(c.SpentAt)})
}

// Code returns the code with the given hash, spent, expired or neither.
// ErrNotFound if there is none. A spent code stays as long as its grant's row, so
// that a replay is seen.
func (tx *Tx) Code(hash string) (*oauth.Code, error) {
	c := new(oauth.Code)
	err := tx.row("SELECT hash, grant_id, redirect_uri, challenge, expires_at, spent_at FROM codes WHERE hash = $1", args{hash},
		&c.Hash, &c.GrantID, &c.RedirectURI, &c.Challenge, instant{&c.ExpiresAt}, instant{&c.SpentAt})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// SpendCode spends a code and tells whether it did: not if it was spent before, has
// expired at Tx.Now, or if its grant is over. One statement decides, so a code is
// spent once.
func (tx *Tx) SpendCode(hash string) (bool, error) {
	n, err := tx.exec(`UPDATE codes SET spent_at = $2 WHERE hash = $1 AND spent_at IS NULL AND expires_at > $2
		AND EXISTS (SELECT 1 FROM grants WHERE grants.id = codes.grant_id AND grants.revoked_at IS NULL AND grants.expires_at > $2)`,
		args{hash, micros(tx.now)})
	return n > 0, err
}

func scanGrant(scan func(...any) error) (*oauth.Grant, error) {
	g := new(oauth.Grant)
	err := scan(grantFields(g)...)
	return g, err
}

func scanListing(scan func(...any) error) (*GrantListing, error) {
	g := new(GrantListing)
	var metadata string
	if err := scan(append(grantFields(&g.Grant), maybe{&g.UserEmail}, maybe{&metadata}, maybe{&g.Resource})...); err != nil {
		return nil, err
	}
	var client oauth.Metadata
	err := object{&client}.Scan(metadata)
	g.ClientName = client.Name
	return g, err
}

// grantFields are where the columns of a grant are scanned to.
func grantFields(g *oauth.Grant) []any {
	return []any{&g.ID, &g.ClientID, &g.UserID, &g.ResourceID, &g.RedirectURI, words[scope.Set]{&g.Scope}, flag{&g.Refreshable},
		&g.Secret, &g.Generation, instant{&g.RotatedAt}, instant{&g.SignedInAt}, words[[]string]{&g.AMR}, instant{&g.CreatedAt}, instant{&g.LastUsedAt},
		instant{&g.ExpiresAt}, instant{&g.EndsAt}, instant{&g.RevokedAt}, &g.RevokedReason, &g.Method, &g.ClientIncarnation, &g.RotatedFrom}
}
