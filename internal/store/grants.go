package store

import (
	"errors"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

const grantColumns = `grants.id, grants.client_id, grants.user_id, grants.resource_id, grants.redirect_uri,
	grants.scope, grants.refreshable, grants.secret, grants.generation, grants.rotated_at, grants.signed_in_at,
	grants.amr, grants.created_at, grants.last_used_at, grants.expires_at, grants.ends_at, grants.revoked_at,
	grants.revoked_reason, grants.method, grants.client_incarnation, grants.rotated_from,
	grants.duration, grants.status_index, ` + sessionColumns

// sessionColumns are the session with which a grant ends, and when that ends. The session is not looked for if there is
// none.
const sessionColumns = `grants.session_id, CASE WHEN grants.session_id = '' THEN NULL ELSE
	(SELECT MAX(sessions.expires_at) FROM sessions WHERE sessions.id = grants.session_id) END`

// sessionLasts returns the condition for the grants whose session, if they end with one, has not ended at the time that
// the parameter at stands for. It has no EXISTS, for which PostgreSQL would read all sessions.
func sessionLasts(at string) string {
	return "(grants.session_id = '' OR " + at + " < (SELECT MAX(sessions.expires_at) FROM sessions " +
		"WHERE sessions.id = grants.session_id))"
}

// CreateGrant stores a new grant with all its fields, including CreatedAt. Its LastUsedAt is zero until RedeemGrant,
// and its ExpiresAt is when its code expires: it ends then unless it is redeemed. CreateGrant sets ClientIncarnation to
// that of the stored client; a grant of a client that is not stored belongs to no client. It sets StatusIndex to one
// that no grant has or had. It returns ErrConflict if its id is taken.
func (tx *Tx) CreateGrant(g *oauth.Grant) error {
	refreshable := 0
	if g.Refreshable {
		refreshable = 1
	}
	var err error
	if g.StatusIndex, err = tx.nextStatus(oauth.GrantStatus, 1); err != nil {
		return err
	}
	err = tx.row(`INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret,
		generation, rotated_at, signed_in_at, amr, created_at, last_used_at, expires_at, ends_at, revoked_at,
		revoked_reason, method, duration, session_id, status_index, client_incarnation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
		COALESCE((SELECT incarnation FROM clients WHERE id = $2), 'none'))
		ON CONFLICT DO NOTHING RETURNING client_incarnation`, args{
		g.ID, g.ClientID, g.UserID, g.ResourceID, g.RedirectURI, g.Scope.String(), refreshable, g.Secret, g.Generation,
		micros(g.RotatedAt), micros(g.SignedInAt), strings.Join(g.AMR, " "), g.CreatedAt.UnixMicro(),
		micros(g.LastUsedAt), earlier(g.ExpiresAt, g.EndsAt), g.EndsAt.UnixMicro(), micros(g.RevokedAt),
		g.RevokedReason, string(g.Method), string(g.Duration), g.SessionID, g.StatusIndex,
	}, &g.ClientIncarnation)
	if errors.Is(err, ErrNotFound) {
		return ErrConflict
	}
	return err
}

// Grant returns the grant with the given id, live or not, or ErrNotFound.
func (tx *Tx) Grant(id string) (*oauth.Grant, error) {
	found, err := all(tx, "SELECT "+grantColumns+" FROM grants WHERE grants.id = $1", args{id}, scanGrant)
	return only(found, err)
}

// GrantFilter says which grants a list shows. The zero GrantFilter shows all.
type GrantFilter struct {
	ID                           string // "": any
	UserID, ClientID, ResourceID string // "": any
	// Live leaves out grants that are revoked, expired, not redeemed, or over with their session.
	Live bool
}

func (f GrantFilter) where(tx *Tx) *where {
	w := new(where)
	if f.ID != "" {
		w.add("grants.id = ?", f.ID)
	}
	for _, k := range f.keys() {
		w.add(k.column+" = ?", k.value)
	}
	if f.Live {
		w.add("grants.revoked_at IS NULL AND grants.last_used_at IS NOT NULL AND grants.expires_at > ? AND "+
			sessionLasts("?"), micros(tx.now), micros(tx.now))
	}
	return w
}

// A grantKey is a condition of a filter for which an index has the grants in the order of their time.
type grantKey struct{ column, value string }

func (f GrantFilter) keys() (keys []grantKey) {
	for _, k := range []grantKey{
		{"grants.user_id", f.UserID}, {"grants.client_id", f.ClientID}, {"grants.resource_id", f.ResourceID},
	} {
		if k.value != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// GrantListing is a grant with the names of what it refers to. The name of something that was deleted is "".
type GrantListing struct {
	oauth.Grant
	UserEmail    string
	UserName     string // "" also if the person has none
	ClientName   string
	Resource     string // the identifier
	ResourceName string
}

// allGrants is the time by which the list of all grants is ordered. Only its index has it in this form, so that no list
// of a person, a client or a resource is looked for in it: PostgreSQL would read all grants for one that has many.
const allGrants = "grants.created_at + 0"

// mostGrants is the number of grants that Grants looks at for one page, at most.
const mostGrants = 2000

// Grants returns a page of the grants that filter shows and the cursor of the next page, or "".
//
// Grants is quick however many grants there are that filter does not show: it looks at 2,000 for one page at most, of
// the person, the client or the resource that has the fewest. So a page may have fewer grants than page.Limit, even
// none, although a next page follows.
func (tx *Tx) Grants(filter GrantFilter, page Page) (grants []*GrantListing, next string, err error) {
	keys := filter.keys()
	order := "grants.created_at"
	if len(keys) == 0 {
		order = allGrants
	}
	last := grantPlace{}
	if filter.ID == "" && (filter.Live || len(keys) > 0) {
		look, best := mostGrants, 0
		if !filter.Live && len(keys) == 1 { // every grant that is looked at is shown
			look = page.limit() + 1
		}
		if best, last, err = tx.furthestGrant(keys, page, look); err != nil {
			return nil, "", err
		}
		for i := range keys {
			if i != best {
				keys[i].column += " || ''" // which no index has
			}
		}
	}
	w := GrantFilter{ID: filter.ID, Live: filter.Live}.where(tx)
	for _, k := range keys {
		w.add(k.column+" = ?", k.value)
	}
	if last.id != "" {
		than := "<="
		if page.Newest {
			than = ">="
		}
		w.add(order+" "+than+" ? AND ("+order+", grants.id) "+than+" (?, ?)", last.at, last.at, last.id)
	}
	grants, next, err = listing[*GrantListing]{query: listGrants, at: order, id: "grants.id", scan: scanListing,
		key: func(g *GrantListing) (time.Time, string) { return g.CreatedAt, g.ID }}.page(tx, w, page)
	if err == nil && next == "" && last.id != "" {
		next = cursorAfter(last.at, last.id)
	}
	return grants, next, err
}

// grantPlace is where a grant is in the order of the lists. The zero grantPlace is their end.
type grantPlace struct {
	at int64
	id string
}

func scanPlace(scan func(...any) error) (p grantPlace, err error) { return p, scan(&p.at, &p.id) }

// furthestGrant returns the key whose grants, look of them, go furthest from where the page begins, and the last of
// these. It reads indexes only. Without keys it does so for all grants. It is also needed for one key, because
// PostgreSQL makes one plan for all people, which reads all grants of one.
func (tx *Tx) furthestGrant(keys []grantKey, page Page, look int) (best int, last grantPlace, err error) {
	for i := range max(1, len(keys)) {
		w, order, at := new(where), allGrants, page
		if len(keys) > 0 {
			w.add(keys[i].column+" = ?", keys[i].value)
			order = "grants.created_at"
		}
		at.Limit = 1
		found, _, err := listing[grantPlace]{query: "SELECT grants.created_at, grants.id FROM grants",
			at: order, id: "grants.id", skip: look - 1, scan: scanPlace,
			key: func(p grantPlace) (time.Time, string) { return time.UnixMicro(p.at), p.id }}.page(tx, w, at)
		switch {
		case err != nil:
			return 0, last, err
		case len(found) == 0: // it has all: nothing goes further
			return i, grantPlace{}, nil
		}
		further := found[0].at > last.at || found[0].at == last.at && found[0].id > last.id
		if last.id == "" || further != page.Newest {
			best, last = i, found[0]
		}
	}
	return best, last, nil
}

// LiveGrants returns the number of live grants that filter shows.
func (tx *Tx) LiveGrants(filter GrantFilter) (n int, err error) {
	filter.Live = true
	w := filter.where(tx)
	err = tx.row("SELECT COUNT(*) FROM grants"+w.String(), w.args, &n)
	return n, err
}

// RevokeUserGrants revokes all grants of a person, as RevokeGrant revokes one.
func (tx *Tx) RevokeUserGrants(userID, reason string) error {
	return tx.revokeGrants(OfUser, userID, reason)
}

// RevokeClientGrants revokes all grants of a client, as RevokeGrant revokes one.
func (tx *Tx) RevokeClientGrants(clientID, reason string) error {
	return tx.revokeGrants(OfClient, clientID, reason)
}

// RevokeGrant revokes a grant, and with it all its codes and tokens. It returns false if the grant does not exist or
// was revoked before. A grant that has expired is revoked too, so that a list can show the reason.
func (tx *Tx) RevokeGrant(id, reason string) (bool, error) {
	n, err := tx.exec("UPDATE grants SET revoked_at = $2, revoked_reason = $3 WHERE id = $1 AND revoked_at IS NULL",
		args{id, micros(tx.now), reason})
	if n > 0 {
		tx.ended(OneGrant, id)
	}
	return n > 0, err
}

// revokeGrants revokes the grants of a person, a client or a resource.
func (tx *Tx) revokeGrants(of Subject, id, reason string) error {
	column := map[Subject]string{OfUser: "user_id", OfClient: "client_id", OfResource: "resource_id"}[of]
	tx.ended(of, id)
	_, err := tx.exec("UPDATE grants SET revoked_at = $2, revoked_reason = $3 WHERE "+column+" = $1 AND revoked_at "+
		"IS NULL", args{id, micros(tx.now), reason})
	return err
}

// RedeemGrant records that the code of a grant was redeemed. generation is that of the refresh token that is issued, or
// 0 for none; expiresAt is when the grant ends unless it is refreshed, but not after its EndsAt; method is how the
// client authenticated. RedeemGrant returns ErrNotFound if the grant has ended, or was redeemed before.
func (tx *Tx) RedeemGrant(id string, generation int64, expiresAt time.Time, method oauth.Method) error {
	return tx.one(`UPDATE grants SET generation = $2, last_used_at = $3, method = $5, rotated_from = $6,
		expires_at = CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END
		WHERE id = $1 AND last_used_at IS NULL AND revoked_at IS NULL AND expires_at > $3 AND `+sessionLasts("$3"),
		args{id, generation, micros(tx.now), expiresAt.UnixMicro(), string(method), tx.Address()})
}

// RotateGrant raises the grant's generation by one if it equals from and the grant is live, and returns the grant's
// StatusIndex at that moment. One statement decides, so only one of several callers succeeds. expiresAt is when the
// grant ends unless it is refreshed again, but not after its EndsAt. RotateGrant returns ErrNotFound if the condition
// is false; Grant then shows why.
func (tx *Tx) RotateGrant(id string, from int64, expiresAt time.Time) (statusIndex int64, err error) {
	err = tx.row(`UPDATE grants
		SET generation = generation + 1, rotated_at = $3, last_used_at = $3, rotated_from = $5,
		expires_at = CASE WHEN ends_at < $4 THEN ends_at ELSE $4 END
		WHERE id = $1 AND generation = $2 AND last_used_at IS NOT NULL AND revoked_at IS NULL AND expires_at > $3
		AND `+sessionLasts("$3")+" RETURNING status_index",
		args{id, from, micros(tx.now), expiresAt.UnixMicro(), tx.Address()}, &statusIndex)
	return statusIndex, err
}

// consents is the largest number of consents that Consents reads.
const consents = 28

// Consent is what a person allowed with a grant that is in force, and for how long.
type Consent struct {
	Scope     scope.Set
	Duration  oauth.Duration
	EndsAt    time.Time
	SessionID string // of the session with which it ends; "": none
}

// Consents returns the live, redeemed grants that a person gave a client for a resource with that redirect URI, newest
// first. It leaves out grants from before the client's redirect URIs or keys changed, and those of an earlier client
// with the same id. It reads only the newest consents, so that its cost does not grow with their number.
func (tx *Tx) Consents(userID, clientID, resourceID, redirectURI string) ([]Consent, error) {
	return all(tx, `SELECT scope, duration, ends_at, session_id FROM (
			SELECT scope, duration, ends_at, session_id, created_at, last_used_at, revoked_at, expires_at,
				client_incarnation
			FROM grants WHERE user_id = $1 AND client_id = $2 AND resource_id = $3 AND redirect_uri = $4
			ORDER BY created_at DESC LIMIT $6
		) AS newest
		WHERE last_used_at IS NOT NULL AND revoked_at IS NULL AND expires_at > $5
		AND (session_id = '' OR $5 < (SELECT MAX(sessions.expires_at) FROM sessions
			WHERE sessions.id = newest.session_id))
		AND EXISTS (SELECT 1 FROM clients WHERE id = $2 AND incarnation = newest.client_incarnation
			AND COALESCE(changed_at, 0) <= newest.created_at)`,
		args{userID, clientID, resourceID, redirectURI, micros(tx.now), consents},
		func(scan func(...any) error) (c Consent, err error) {
			err = scan(words[scope.Set]{&c.Scope}, &c.Duration, instant{&c.EndsAt}, &c.SessionID)
			return c, err
		})
}

// CreateCode stores a new code of an existing grant. It returns ErrConflict if its hash is taken.
func (tx *Tx) CreateCode(c *oauth.Code) error {
	return tx.create("INSERT INTO codes (hash, grant_id, redirect_uri, challenge, expires_at, spent_at) VALUES ($1, "+
		"$2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
		args{c.Hash, c.GrantID, c.RedirectURI, string(c.Challenge), c.ExpiresAt.UnixMicro(), micros(c.SpentAt)})
}

// Code returns the code with the given hash, even if it is spent or expired, or ErrNotFound. A spent code is kept as
// long as its grant's row, so that a replay is noticed.
func (tx *Tx) Code(hash string) (*oauth.Code, error) {
	c := new(oauth.Code)
	err := tx.row("SELECT hash, grant_id, redirect_uri, challenge, expires_at, spent_at FROM codes WHERE hash = $1",
		args{hash},
		&c.Hash, &c.GrantID, &c.RedirectURI, &c.Challenge, instant{&c.ExpiresAt}, instant{&c.SpentAt})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// SpendCode spends a code. It returns false if the code was spent before or has expired at Tx.Now, or if its grant has
// ended. One statement decides, so a code is spent only once.
func (tx *Tx) SpendCode(hash string) (bool, error) {
	n, err := tx.exec(`UPDATE codes SET spent_at = $2 WHERE hash = $1 AND spent_at IS NULL AND expires_at > $2
		AND EXISTS (SELECT 1 FROM grants
			WHERE grants.id = codes.grant_id AND grants.revoked_at IS NULL AND grants.expires_at > $2
			AND `+sessionLasts("$2")+")",
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
	if err := scan(append(grantFields(&g.Grant), maybe{&g.UserEmail}, line{&g.UserName},
		maybe{&metadata}, maybe{&g.Resource}, line{&g.ResourceName})...); err != nil {
		return nil, err
	}
	var client oauth.Metadata
	err := object{&client}.Scan(metadata)
	g.ClientName = client.Name
	return g, err
}

// grantFields returns the destinations to which the columns of a grant are scanned.
func grantFields(g *oauth.Grant) []any {
	return []any{&g.ID, &g.ClientID, &g.UserID, &g.ResourceID, &g.RedirectURI, words[scope.Set]{&g.Scope},
		flag{&g.Refreshable},
		&g.Secret, &g.Generation, instant{&g.RotatedAt}, instant{&g.SignedInAt}, words[[]string]{&g.AMR},
		instant{&g.CreatedAt}, instant{&g.LastUsedAt}, instant{&g.ExpiresAt}, instant{&g.EndsAt}, instant{&g.RevokedAt},
		&g.RevokedReason, &g.Method, &g.ClientIncarnation, &g.RotatedFrom,
		&g.Duration, &g.StatusIndex, &g.SessionID, instant{&g.SessionEndsAt}}
}
