package store

import (
	"errors"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// ByPerson is the RevokedReason of a grant that the person who gave it disconnected. Only such a grant can be restored.
const ByPerson = "person"

// connected is the condition for the grants that a person has given and that are in force at the time ?. It is written
// so that only the index of this list has it, and not that of Grants, which has another order.
const connected = "grants.revoked_at IS NULL AND grants.last_used_at > 0 AND grants.expires_at > ?"

const listGrants = "SELECT " + grantColumns + `, users.email, users.name, clients.metadata, resources.identifier,
	resources.name FROM grants
	LEFT JOIN users ON users.id = grants.user_id LEFT JOIN clients ON clients.id = grants.client_id
	LEFT JOIN resources ON resources.id = grants.resource_id`

// Connected returns a page of the grants of a person that are in force, in the order in which they expire, and the
// cursor of the next page, or "". A grant that is used while the list is read may appear twice.
func (tx *Tx) Connected(userID string, page Page) (grants []*GrantListing, next string, err error) {
	w := new(where)
	w.add("grants.user_id = ?", userID)
	w.add(connected, micros(tx.now))
	w.add(sessionLasts("?"), micros(tx.now))
	return listing[*GrantListing]{query: listGrants, at: "grants.expires_at", id: "grants.id", scan: scanListing,
		key: func(g *GrantListing) (time.Time, string) { return g.ExpiresAt, g.ID }}.page(tx, w, page)
}

// Disconnected returns the newest grants that a person disconnected themselves after since and that can still be
// restored, 25 at most.
func (tx *Tx) Disconnected(userID string, since time.Time) ([]*GrantListing, error) {
	ids, err := all(tx, `SELECT id FROM grants WHERE user_id = $1 AND revoked_reason = 'person'
		AND revoked_at > $2 AND revoked_at <= $3 AND `+restorable+" ORDER BY revoked_at DESC, id DESC LIMIT 25",
		args{userID, micros(since), micros(tx.now)},
		func(scan func(...any) error) (id string, err error) { return id, scan(&id) })
	if err != nil {
		return nil, err
	}
	var grants []*GrantListing
	for _, id := range ids { // one at a time, because PostgreSQL would read all users for several
		found, _, err := tx.Grants(GrantFilter{ID: id}, Page{Limit: 1})
		if err != nil {
			return nil, err
		}
		grants = append(grants, found...)
	}
	return grants, nil
}

// restorable is the condition for the grants that are in force at the time $3 once their revocation is undone, and that
// no later one replaced. The index finds the later ones by their time, because there may be many of the same client;
// PostgreSQL would read all grants for NOT EXISTS.
const restorable = `grants.last_used_at IS NOT NULL AND grants.expires_at > $3 AND 0 = (
	SELECT COUNT(*) FROM grants AS later WHERE later.user_id = grants.user_id
	AND later.created_at >= grants.revoked_at AND later.client_id || '' = grants.client_id
	AND later.resource_id || '' = grants.resource_id AND later.id <> grants.id
	AND (later.revoked_at IS NULL OR later.revoked_at > grants.revoked_at))`

// Disconnect revokes a grant of a person as RevokeGrant does, with the reason ByPerson, and returns it. It returns
// ErrNotFound if the person has given no such grant, and ErrConflict if it was revoked before.
func (tx *Tx) Disconnect(userID, id string) (*oauth.Grant, error) {
	found, err := all(tx, `UPDATE grants SET revoked_at = $3, revoked_reason = 'person' WHERE id = $1 AND user_id = $2
		AND revoked_at IS NULL AND last_used_at IS NOT NULL RETURNING `+grantColumns,
		args{id, userID, micros(tx.now)}, scanGrant)
	g, err := only(found, err)
	if !errors.Is(err, ErrNotFound) {
		tx.ended(OneGrant, id)
		return g, err
	}
	if g, err = tx.Grant(id); err == nil && (g.UserID != userID || g.LastUsedAt.IsZero()) {
		return nil, ErrNotFound
	}
	if err == nil {
		err = ErrConflict
	}
	return g, err
}

// DisconnectAll revokes all grants of a person that are in force, as Disconnect does, and returns their number.
func (tx *Tx) DisconnectAll(userID string) (int, error) {
	tx.ended(OfUser, userID)
	n, err := tx.exec("UPDATE grants SET revoked_at = $2, revoked_reason = 'person' WHERE user_id = $1 "+
		"AND revoked_at IS NULL AND last_used_at IS NOT NULL AND expires_at > $2", args{userID, micros(tx.now)})
	return int(n), err
}

// Restore brings back a grant that the person disconnected themselves after since, as it was, and returns it. It
// returns ErrNotFound if the person has given no such grant, and ErrConflict if it cannot be brought back: it was not
// disconnected by the person, or is brought back already, or not after since; it would have expired since; or the
// person has allowed the same client something at the same resource since. One statement decides.
func (tx *Tx) Restore(userID, id string, since time.Time) (*oauth.Grant, error) {
	found, err := all(tx, `UPDATE grants SET revoked_at = NULL, revoked_reason = ''
		WHERE grants.id = $1 AND grants.user_id = $2 AND grants.revoked_reason = 'person' AND grants.revoked_at > $4
		AND `+restorable+" RETURNING "+grantColumns,
		args{id, userID, micros(tx.now), micros(since)}, scanGrant)
	g, err := only(found, err)
	if !errors.Is(err, ErrNotFound) {
		tx.ended(OneGrant, id)
		return g, err
	}
	if g, err = tx.Grant(id); err == nil && g.UserID != userID {
		return nil, ErrNotFound
	}
	if err == nil {
		err = ErrConflict
	}
	return g, err
}

// RevokeOwnSession deletes a session of a person by its id. It returns ErrNotFound if the person has no such session,
// or if it has ended.
func (tx *Tx) RevokeOwnSession(userID, id string) error {
	tx.ended(OfUser, userID)
	return tx.one("DELETE FROM sessions WHERE id = $1 AND user_id = $2 AND expires_at > $3",
		args{id, userID, micros(tx.now)})
}

// EndOtherSessions deletes the sessions of a person but the one with the given hash, and returns their number.
func (tx *Tx) EndOtherSessions(userID, hash string) (int, error) {
	n, err := tx.exec("DELETE FROM sessions WHERE user_id = $1 AND hash <> $2", args{userID, hash})
	tx.ended(OfUser, userID)
	return int(n), err
}
