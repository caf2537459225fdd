package store

import (
	"errors"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

const userColumns = "id, email, name, role, password_hash, created_at, disabled_at, version, email_verified_at"

// userFields are where userColumns are scanned into.
func userFields(u *identity.User) []any {
	return []any{&u.ID, &u.Email, line{&u.Name}, &u.Role, &u.PasswordHash, instant{&u.CreatedAt},
		instant{&u.DisabledAt}, &u.Version, instant{&u.EmailVerifiedAt}}
}

// CreateUser stores a new account with all its fields, including CreatedAt, and sets its Version. It returns
// ErrConflict if its id is taken, or its e-mail address, compared by identity.EmailKey. An account without an address
// is found only by its id.
func (tx *Tx) CreateUser(u *identity.User) error {
	u.Version = 1
	key := identity.EmailKey(u.Email)
	if u.Email == "" {
		key = u.ID
	}
	err := tx.create("INSERT INTO users ("+userColumns+", email_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "+
		"ON CONFLICT DO NOTHING",
		args{u.ID, u.Email, u.Name, string(u.Role), u.PasswordHash, u.CreatedAt.UnixMicro(), micros(u.DisabledAt),
			u.Version, micros(u.EmailVerifiedAt), key})
	if err != nil {
		return err
	}
	return userNames.add(tx, namesOfUser(u))
}

// User returns the account with the given id, or ErrNotFound.
func (tx *Tx) User(id string) (*identity.User, error) {
	found, err := all(tx, "SELECT "+userColumns+" FROM users WHERE id = $1", args{id}, scanUser)
	return only(found, err)
}

// UserByEmail returns the account with the given e-mail address, or ErrNotFound. Addresses are compared by
// identity.EmailKey.
func (tx *Tx) UserByEmail(email string) (*identity.User, error) {
	found, err := all(tx, "SELECT "+userColumns+" FROM users WHERE email_key IN ($1, $2) ORDER BY CASE WHEN "+
		"email_key = $1 THEN 0 ELSE 1 END LIMIT 1",
		args{identity.EmailKey(email), identity.OldEmailKey(email)}, scanUser)
	return only(found, err)
}

// Users returns a page of the accounts and the cursor of the next page, or "".
func (tx *Tx) Users(page Page) (users []*identity.User, next string, err error) {
	if page.Begins != "" {
		return begun(tx, userNames, nil, page, userColumns, scanUser, func(u *identity.User) string { return u.ID })
	}
	return listing[*identity.User]{query: "SELECT " + userColumns + " FROM users",
		at: "created_at", id: "id", scan: scanUser,
		key: func(u *identity.User) (time.Time, string) { return u.CreatedAt, u.ID }}.page(tx, new(where), page)
}

// UpdateUser stores the name and the role of an account. It returns ErrNotFound if there is no such account.
func (tx *Tx) UpdateUser(u *identity.User) error {
	stored, err := tx.User(u.ID)
	if err != nil {
		return err
	}
	if stored.Name != u.Name {
		stored.Name = u.Name
		if err := userNames.replace(tx, namesOfUser(stored)); err != nil {
			return err
		}
	}
	return tx.one("UPDATE users SET name = $2, role = $3, "+
		"version = version + CASE WHEN name = $2 AND role = $3 THEN 0 ELSE 1 END WHERE id = $1",
		args{u.ID, u.Name, string(u.Role)})
}

// VerifyEmail records that the owner of an account's address used something that was sent there. It returns ErrNotFound
// if there is no such account, or if it has another address by now.
func (tx *Tx) VerifyEmail(id, email string) error {
	return tx.one("UPDATE users SET email_verified_at = $3, "+
		"version = version + CASE WHEN email_verified_at IS NULL THEN 1 ELSE 0 END WHERE id = $1 AND email = $2",
		args{id, email, micros(tx.now)})
}

// SetPassword stores a password hash, and ends the links with which the person may set another one. It returns
// ErrNotFound if there is no such account.
func (tx *Tx) SetPassword(id, hash string) error {
	if err := tx.endResets(id); err != nil {
		return err
	}
	return tx.one("UPDATE users SET password_hash = $2, version = version + 1 WHERE id = $1", args{id, hash})
}

// ConfirmPassword replaces the password hash old, with which the person has just signed in, with hash, which may be the
// same. It returns ErrNotFound if the account has been deleted or disabled, or has another hash by now. Otherwise no
// other transaction can change the account until tx ends.
func (tx *Tx) ConfirmPassword(id, old, hash string) error {
	return tx.one("UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2 AND disabled_at IS NULL",
		args{id, old, hash})
}

// DisableUser disables an account: its sessions end, and its grants do not work until EnableUser. It returns
// ErrNotFound if there is no such account.
func (tx *Tx) DisableUser(id string) error {
	tx.ended(OfUser, id)
	if err := tx.one("UPDATE users SET disabled_at = COALESCE(disabled_at, $2), "+
		"version = version + CASE WHEN disabled_at IS NULL THEN 1 ELSE 0 END WHERE id = $1",
		args{id, micros(tx.now)}); err != nil {
		return err
	}
	return tx.EndSessions(id)
}

// EnableUser undoes DisableUser, except that the sessions stay ended. It returns ErrNotFound if there is no such
// account.
func (tx *Tx) EnableUser(id string) error {
	tx.ended(OfUser, id)
	return tx.one("UPDATE users SET disabled_at = NULL, "+
		"version = version + CASE WHEN disabled_at IS NULL THEN 0 ELSE 1 END WHERE id = $1", args{id})
}

// DeleteUser deletes an account with its sessions and its memberships of groups, and revokes its grants with the reason
// "user_deleted". It returns ErrNotFound if there is no such account.
func (tx *Tx) DeleteUser(id string) error {
	if err := tx.one("DELETE FROM users WHERE id = $1", args{id}); err != nil {
		return err
	}
	return tx.revokeGrants(OfUser, id, "user_deleted")
}

func scanUser(scan func(...any) error) (*identity.User, error) {
	u := new(identity.User)
	err := scan(userFields(u)...)
	return u, err
}

// CreateSession stores a new session, with the network address of the transaction's request. It gives it an id unless
// it has one. It returns ErrConflict if its hash is taken.
func (tx *Tx) CreateSession(s *identity.Session) error {
	if s.ID == "" {
		s.ID = oauth.NewID("ses_")
	}
	from := audit.Event{}.Stamp(tx.ctx)
	return tx.create(`INSERT INTO sessions
		(hash, user_id, signed_in_at, amr, seen_at, expires_at, ends_at, id, address, user_agent)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`, args{
		s.Hash, s.UserID, s.SignedInAt.UnixMicro(), strings.Join(s.AMR, " "), s.SeenAt.UnixMicro(),
		earlier(s.ExpiresAt, s.EndsAt), s.EndsAt.UnixMicro(), s.ID, from.Address, from.UserAgent,
	})
}

// Session returns the session with the given hash and its user. It returns ErrNotFound if there is none, if it has
// ended at Tx.Now, or if its account is disabled.
func (tx *Tx) Session(hash string) (*identity.Session, *identity.User, error) {
	s, u := new(identity.Session), new(identity.User)
	into := []any{&s.ID, &s.Hash, &s.UserID, instant{&s.SignedInAt}, words[[]string]{&s.AMR}, instant{&s.SeenAt},
		instant{&s.ExpiresAt}, instant{&s.EndsAt}}
	err := tx.row("SELECT s.id, s.hash, s.user_id, s.signed_in_at, s.amr, s.seen_at, s.expires_at, s.ends_at, "+
		columnsOf("u", userColumns)+" FROM sessions s JOIN users u ON u.id = s.user_id "+
		"WHERE s.hash = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL", args{hash, micros(tx.now)},
		append(into, userFields(u)...)...)
	if err != nil {
		return nil, nil, err
	}
	return s, u, nil
}

// SeenSession records that a session is used now and moves its deadline to expiresAt, but not past its EndsAt. It
// returns ErrNotFound if the session has ended.
func (tx *Tx) SeenSession(hash string, expiresAt time.Time) error {
	return tx.one(`UPDATE sessions SET seen_at = $2, expires_at = CASE WHEN ends_at < $3 THEN ends_at ELSE $3 END
		WHERE hash = $1 AND expires_at > $2`, args{hash, micros(tx.now), expiresAt.UnixMicro()})
}

// EndSession deletes a session. It is not an error if there is none.
func (tx *Tx) EndSession(hash string) error {
	return tx.rows("DELETE FROM sessions WHERE hash = $1 RETURNING user_id", args{hash}, tx.endedUser)
}

// endedUser is called with a row that holds the id of a user of whom a session has ended.
func (tx *Tx) endedUser(scan func(...any) error) error {
	var userID string
	err := scan(&userID)
	tx.ended(OfUser, userID)
	return err
}

// TakeSession deletes the session with the given hash and returns its id if it is one of the account that has not
// ended. Otherwise it returns "". It is not an error if there is none.
func (tx *Tx) TakeSession(hash, userID string) (id string, err error) {
	var of string
	var expiresAt time.Time
	err = tx.row("DELETE FROM sessions WHERE hash = $1 RETURNING id, user_id, expires_at", args{hash},
		&id, &of, instant{&expiresAt})
	switch {
	case errors.Is(err, ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	}
	tx.ended(OfUser, of)
	if of != userID || !tx.now.Before(expiresAt) {
		id = ""
	}
	return id, nil
}

// EndSessions deletes all sessions of an account.
func (tx *Tx) EndSessions(userID string) error {
	tx.ended(OfUser, userID)
	_, err := tx.exec("DELETE FROM sessions WHERE user_id = $1", args{userID})
	return err
}

// earlier returns the earlier of two times, in the form in which it is stored.
func earlier(a, b time.Time) int64 { return min(a.UnixMicro(), b.UnixMicro()) }
