package store

import (
	"errors"
	"time"
)

// OneTime is a link, with or without a code to type, that works once. It was sent by mail, or an operator gave it to a
// person.
type OneTime struct {
	ID         string
	Purpose    Purpose
	UserID     string // ""; the address is nobody's, and nothing was sent
	Email      string // to which it was sent; "": to none
	TokenHash  string // of the token in the link
	CodeHash   string // "": there is no code
	Tries      int    // of the code
	Browser    string // hash of the browser that may use it; "": any
	Request    string // the sealed authorization request that it is for, or ""
	Back       string // the path to which it leads, or ""
	KeepGrants bool   // a new password leaves the person's grants as they are
	ExpiresAt  time.Time
}

// Purpose is what a OneTime is for.
type Purpose string

// The purposes.
const (
	ToSignIn Purpose = "sign_in"
	ToReset  Purpose = "reset"   // the password
	ToSignUp Purpose = "sign_up" // to make an account with the address
)

// CodeTries is how often a code may be tried.
const CodeTries = 5

const oneTimeColumns = "id, purpose, user_id, email, token_hash, code_hash, tries, browser, request, back, " +
	"keep_grants, expires_at"

// CreateOneTime stores a OneTime, with no tries. It returns ErrConflict if its id or token is taken.
func (tx *Tx) CreateOneTime(o *OneTime) error {
	keep := 0
	if o.KeepGrants {
		keep = 1
	}
	return tx.create("INSERT INTO one_time ("+oneTimeColumns+") "+
		"VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
		args{o.ID, string(o.Purpose), o.UserID, o.Email, o.TokenHash, o.CodeHash, o.Browser, o.Request, o.Back, keep,
			o.ExpiresAt.UnixMicro()})
}

// OneTime returns the OneTime with the given id that still works, or ErrNotFound.
func (tx *Tx) OneTime(id string) (*OneTime, error) { return tx.oneTime("id", id) }

// OneTimeByToken returns the OneTime whose token has the given hash if it still works, or ErrNotFound.
func (tx *Tx) OneTimeByToken(hash string) (*OneTime, error) { return tx.oneTime("token_hash", hash) }

func (tx *Tx) oneTime(column, value string) (*OneTime, error) {
	o := new(OneTime)
	var keep int64
	err := tx.row("SELECT "+oneTimeColumns+" FROM one_time WHERE "+column+" = $1 "+
		"AND expires_at > $2 AND spent_at IS NULL",
		args{value, micros(tx.now)}, &o.ID, &o.Purpose, &o.UserID, &o.Email, &o.TokenHash, &o.CodeHash, &o.Tries,
		&o.Browser, &o.Request, &o.Back, &keep, instant{&o.ExpiresAt})
	if err != nil {
		return nil, err
	}
	o.KeepGrants = keep == 1
	return o, nil
}

// SpendOneTime spends a OneTime. It returns ErrNotFound if it no longer works, so that it works once.
func (tx *Tx) SpendOneTime(id string) error {
	return tx.one("UPDATE one_time SET spent_at = $2 WHERE id = $1 AND spent_at IS NULL AND expires_at > $2",
		args{id, micros(tx.now)})
}

// TryCode spends a OneTime if its code has the given hash, and otherwise counts a try. It reports whether it was spent.
// It is not if it no longer works or was tried CodeTries times.
func (tx *Tx) TryCode(id, hash string) (bool, error) {
	var spentAt time.Time
	err := tx.row("UPDATE one_time SET tries = tries + 1, "+
		"spent_at = CASE WHEN code_hash = $2 THEN CAST($3 AS BIGINT) ELSE NULL END "+
		"WHERE id = $1 AND spent_at IS NULL AND expires_at > $3 AND tries < $4 AND code_hash <> '' RETURNING spent_at",
		args{id, hash, micros(tx.now), CodeTries}, instant{&spentAt})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil && !spentAt.IsZero(), err
}

// endResets makes the links with which a person may set a new password useless.
func (tx *Tx) endResets(userID string) error {
	_, err := tx.exec("UPDATE one_time SET spent_at = $2 "+
		"WHERE user_id = $1 AND user_id <> '' AND purpose = 'reset' AND spent_at IS NULL",
		args{userID, micros(tx.now)})
	return err
}
