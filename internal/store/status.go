package store

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// keepChanges is how long a change is of interest: no token that it ended lives longer.
const keepChanges = 2 * oauth.MaxAccessTTL

// keepEnded is how long an expired session is kept, so that every process sees which one has expired.
const keepEnded = 10 * time.Minute

// Subject says what a Change is about.
type Subject string

// The subjects of a change: one grant; the grants and own tokens of a client, by its id; the own tokens at a resource,
// by its identifier; the grants of a person or at a resource, by its id; one index of a status list, in the form
// list/index; and everything.
const (
	OneGrant   Subject = "grant"
	OfClient   Subject = "client"
	OfAudience Subject = "audience"
	OfUser     Subject = "user"
	OfResource Subject = "resource"
	OneIndex   Subject = "index"
	Everything Subject = "everything"
	ofSession  Subject = "session" // all grants that end with a session
)

// Change names something that changed so that tokens may have ended, or count again.
type Change struct {
	Subject Subject
	ID      string
}

// ended records that tokens of a subject may have ended, or count again, once the transaction is committed. The methods
// that make such a change call it.
func (tx *Tx) ended(subject Subject, id string) {
	tx.Touch(Statuses)
	for _, c := range tx.changes {
		if c.Subject == subject && c.ID == id {
			return
		}
	}
	tx.changes = append(tx.changes, Change{subject, id})
}

// noteChanges writes what ended has recorded, under the version that the commit makes.
func (tx *Tx) noteChanges(version int64) error {
	for _, c := range tx.changes {
		if _, err := tx.exec("INSERT INTO status_changes (version, kind, subject, at) VALUES ($1, $2, $3, $4) "+
			"ON CONFLICT DO NOTHING", args{version, string(c.Subject), c.ID, micros(tx.now)}); err != nil {
			return err
		}
	}
	return nil
}

// StatusChanges returns the newest version of the changes, and those after the version since, the oldest first. With
// since 0 it returns all that may matter to a token that has not expired, and one for the grants that end with a
// session.
func (tx *Tx) StatusChanges(since int64) (version int64, changes []Change, err error) {
	if version, err = tx.readVersion(Statuses); err != nil || version == since {
		return version, nil, err
	}
	changes, err = all(tx, "SELECT kind, subject FROM status_changes WHERE version > $1 AND version <= $2 "+
		"AND at > $3 ORDER BY version", args{since, version, tx.now.Add(-keepChanges).UnixMicro()},
		func(scan func(...any) error) (c Change, err error) {
			err = scan(&c.Subject, &c.ID)
			return c, err
		})
	if since == 0 {
		changes = append(changes, Change{Subject: ofSession})
	}
	return version, changes, err
}

// ExpiredSince returns a change for each person whose session has expired after since, and for each client that has
// expired. No other expiry ends tokens before their own.
func (tx *Tx) ExpiredSince(since time.Time) ([]Change, error) {
	return all(tx, "SELECT 'user', user_id FROM sessions WHERE expires_at > $1 AND expires_at <= $2 "+
		"UNION SELECT 'client', id FROM clients WHERE expires_at > $1 AND expires_at <= $2",
		args{since.UnixMicro(), micros(tx.now)}, func(scan func(...any) error) (c Change, err error) {
			err = scan(&c.Subject, &c.ID)
			return c, err
		})
}

// StatusGrant is a grant as its status is judged: claims are those of its tokens.
type StatusGrant struct {
	Claims oauth.Claims
	Index  int64

	createdAt int64
}

// StatusGrants returns a page of the grants that a change is about and that may have tokens which have not expired. The
// next page begins after the last of them; after is nil for the first.
func (tx *Tx) StatusGrants(c Change, after *StatusGrant, limit int) ([]StatusGrant, error) {
	w, order := new(where), "g.created_at"
	switch c.Subject {
	case OneGrant:
		w.add("g.id = ?", c.ID)
	case OfClient:
		w.add("g.client_id = ?", c.ID)
	case OfUser:
		w.add("g.user_id = ?", c.ID)
	case OfResource:
		w.add("g.resource_id = ?", c.ID)
	case ofSession:
		w.add("g.session_id <> ''")
	case Everything:
		order = "g.created_at + 0" // as allGrants
	default:
		return nil, nil
	}
	w.add("g.last_used_at IS NOT NULL AND g.expires_at > ?", tx.now.Add(-oauth.MaxAccessTTL).UnixMicro())
	if after != nil {
		w.add(order+" >= ? AND ("+order+", g.id) > (?, ?)", after.createdAt, after.createdAt,
			strings.TrimSuffix(after.Claims.ID, "."))
	}
	return all(tx, "SELECT g.id, g.created_at, g.client_id, g.scope, g.status_index, COALESCE(r.identifier, '') "+
		"FROM grants g LEFT JOIN resources r ON r.id = g.resource_id"+w.String()+
		" ORDER BY "+order+", g.id LIMIT "+strconv.Itoa(limit), w.args,
		func(scan func(...any) error) (g StatusGrant, err error) {
			err = scan(&g.Claims.ID, &g.createdAt, &g.Claims.ClientID, &g.Claims.Scope, &g.Index, &g.Claims.Audience)
			g.Claims.ID += "."
			return g, err
		})
}

// StatusBlock is a range of indexes for a client's own tokens at one resource. Claims are those of the tokens.
type StatusBlock struct {
	First, Size int64
	Claims      oauth.Claims
}

// StatusBlocks returns a page of the blocks that a change is about and that may have tokens which have not expired. The
// next page begins after the last of them; after is nil for the first.
func (tx *Tx) StatusBlocks(c Change, after *StatusBlock, limit int) ([]StatusBlock, error) {
	w := new(where)
	switch c.Subject {
	case OfClient:
		w.add("client_id = ?", c.ID)
	case OfAudience:
		w.add("audience = ?", c.ID)
	case Everything:
	default:
		return nil, nil
	}
	w.add("expires_at > ?", micros(tx.now))
	if after != nil {
		w.add("first > ?", after.First)
	}
	return all(tx, "SELECT first, size, client_id, audience, prefix FROM status_blocks"+w.String()+
		" ORDER BY first LIMIT "+strconv.Itoa(limit), w.args,
		func(scan func(...any) error) (b StatusBlock, err error) {
			err = scan(&b.First, &b.Size, &b.Claims.ClientID, &b.Claims.Audience, &b.Claims.ID)
			return b, err
		})
}

// ReserveStatus reserves a block of the given size for the own tokens of a client at a resource, which must expire by
// expiresAt, and returns the first index of the block. No index is given twice.
func (tx *Tx) ReserveStatus(c *oauth.Client, r *oauth.Resource, size int64, expiresAt time.Time) (int64, error) {
	first, err := tx.nextStatus(oauth.MachineStatus, size)
	if err == nil {
		_, err = tx.exec("INSERT INTO status_blocks (first, size, client_id, audience, prefix, expires_at) "+
			"VALUES ($1, $2, $3, $4, $5, $6)",
			args{first, size, c.ID, r.Identifier, oauth.OwnTokenPrefix(c, r), expiresAt.UnixMicro()})
	}
	return first, err
}

// StatusEnd returns the indexes of each kind of status list that were given so far: those below.
func (tx *Tx) StatusEnd() (grants, machines int64, err error) {
	err = tx.row("SELECT (SELECT next FROM status_next WHERE kind = 'g'), "+
		"(SELECT next FROM status_next WHERE kind = 'm')", nil, &grants, &machines)
	return grants, machines, err
}

// nextStatus takes n indexes of a kind of status list and returns the first.
func (tx *Tx) nextStatus(kind string, n int64) (first int64, err error) {
	err = tx.row("UPDATE status_next SET next = next + $2 WHERE kind = $1 RETURNING next - $2", args{kind, n}, &first)
	return first, err
}

// RevokeToken revokes one access token. The record is kept until the token expires. Its index in the status lists, if
// it has one, is marked. Tokens of a grant share an index, so the grant gets another one for its later tokens; those
// issued before are marked with the one that is revoked, though they are not. Revoking a token again changes nothing,
// and returns false.
func (tx *Tx) RevokeToken(claims *oauth.Claims) (bool, error) {
	n, err := tx.exec("INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		args{claims.ID, time.Unix(claims.Expiry, 0).UnixMicro()})
	if err != nil || n == 0 || claims.Status == nil {
		return n > 0, err
	}
	tx.ended(OneIndex, claims.Status.String())
	id := claims.GrantID()
	if id == "" {
		return true, nil
	}
	next, err := tx.nextStatus(oauth.GrantStatus, 1)
	if err == nil {
		err = tx.one("UPDATE grants SET status_index = $2 WHERE id = $1", args{id, next})
	}
	if errors.Is(err, ErrNotFound) { // the grant is over, and its row gone
		err = nil
	}
	return true, err
}
