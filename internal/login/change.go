package login

import (
	"errors"
	"net/http"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// HasPassword reports whether the person of v can sign in with a password.
func (e *Endpoint) HasPassword(v interaction.Visitor) bool {
	return slices.Contains(e.Methods, passwords{e}.Name()) && v.Person.PasswordHash != ""
}

// ChangePassword replaces the password of the person of v, who gives the current one, and ends their sessions in other
// browsers. It refuses a wrong current password with ErrWrongPassword, and counts that as a failed sign-in; a new one
// that HashPassword refuses; and interaction.ErrSignedOut if the session of v has ended. It records the change, but no
// refusal.
func (e *Endpoint) ChangePassword(r *http.Request, v interaction.Visitor, current, next string) error {
	hash, err := credential.HashPassword(r.Context(), next) // first, because a mistake in it must not count as a guess
	if err != nil {
		return err
	}
	_, err = e.try(r, e.accountKey(r, counted(v.Person)), func() (web.Answer, error) {
		proof, err := passwords{e}.prove(r, v.Person, current)
		if err != nil {
			return nil, err
		}
		return nil, e.DB.Update(r.Context(), func(tx *store.Tx) error {
			err := e.Desk.Sessions.Confirm(tx, v)
			if errors.Is(err, store.ErrNotFound) {
				return interaction.ErrSignedOut
			}
			if err == nil {
				err = proof.Confirm(tx)
			}
			if err == nil {
				err = tx.SetPassword(v.Person.ID, hash)
			}
			if err != nil {
				return err
			}
			ended, err := tx.EndOtherSessions(v.Person.ID, v.Session.Hash)
			if err != nil {
				return err
			}
			return tx.Conclude(audit.PasswordChange(v.Person.ID, ended), nil)
		})
	})
	if errors.Is(err, errWrong) {
		err = ErrWrongPassword
	}
	return err
}

// ErrWrongPassword refuses a change of a password.
var ErrWrongPassword = oauth.Refuse(oauth.AccessDenied, "the current password is wrong")

// Explain returns the sentence that tells a person why ChangePassword refused.
func Explain(err error) string {
	if errors.Is(err, ErrWrongPassword) {
		return "That is not your current password. Nothing was changed."
	}
	return why(err)
}
