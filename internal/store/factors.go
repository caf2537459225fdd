package store

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/identity"
)

// TOTP returns the authenticator app of an account, or ErrNotFound.
func (tx *Tx) TOTP(userID string) (*identity.TOTP, error) {
	a := &identity.TOTP{UserID: userID}
	err := tx.row("SELECT sealed, last_step, created_at FROM totp WHERE user_id = $1", args{userID},
		&a.Sealed, &a.LastStep, instant{&a.CreatedAt})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// CreateTOTP stores the authenticator app of an account. It returns ErrConflict if the account has one.
func (tx *Tx) CreateTOTP(a *identity.TOTP) error {
	return tx.create("INSERT INTO totp (user_id, sealed, last_step, created_at) VALUES ($1, $2, $3, $4) "+
		"ON CONFLICT DO NOTHING", args{a.UserID, a.Sealed, a.LastStep, a.CreatedAt.UnixMicro()})
}

// SpendTOTP records that the code of a time step was accepted. It returns ErrNotFound if a code of that step or a later
// one was accepted before, or if the account no longer has an authenticator app, so that each code is accepted once.
func (tx *Tx) SpendTOTP(userID string, step int64) error {
	return tx.one("UPDATE totp SET last_step = $2 WHERE user_id = $1 AND last_step < $2", args{userID, step})
}

// DeleteSecondFactor deletes the authenticator app and the recovery codes of an account. It returns ErrNotFound if
// there was no app.
func (tx *Tx) DeleteSecondFactor(userID string) error {
	if _, err := tx.exec("DELETE FROM recovery_codes WHERE user_id = $1", args{userID}); err != nil {
		return err
	}
	return tx.one("DELETE FROM totp WHERE user_id = $1", args{userID})
}

// SetRecoveryCodes replaces the recovery codes of an account with those that have the given hashes.
func (tx *Tx) SetRecoveryCodes(userID string, hashes []string) error {
	if _, err := tx.exec("DELETE FROM recovery_codes WHERE user_id = $1", args{userID}); err != nil {
		return err
	}
	for _, hash := range hashes {
		if err := tx.create("INSERT INTO recovery_codes (user_id, hash) VALUES ($1, $2) ON CONFLICT DO NOTHING",
			args{userID, hash}); err != nil {
			return err
		}
	}
	return nil
}

// SpendRecoveryCode deletes a recovery code. It returns ErrNotFound if the account does not have it, or no longer.
func (tx *Tx) SpendRecoveryCode(userID, hash string) error {
	return tx.one("DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2", args{userID, hash})
}

// RecoveryCodes returns how many recovery codes an account has left.
func (tx *Tx) RecoveryCodes(userID string) (n int, err error) {
	err = tx.row("SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1", args{userID}, &n)
	return n, err
}

// InStrictGroup reports whether the person is in a group whose members need a second factor.
func (tx *Tx) InStrictGroup(userID string) (bool, error) {
	var name string
	err := tx.row("SELECT g.name FROM groups g JOIN group_members m ON m.group_id = g.id AND m.user_id = $1 "+
		"WHERE g.second_factor = 1 LIMIT 1", args{userID}, &name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// ConfirmUser returns ErrNotFound if the account has been deleted, disabled or changed since it had the given Version.
// Otherwise no other transaction can change the account until tx ends.
func (tx *Tx) ConfirmUser(id string, version int64) error {
	return tx.one("UPDATE users SET id = id WHERE id = $1 AND version = $2 AND disabled_at IS NULL", args{id, version})
}
