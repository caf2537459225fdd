package store

import (
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
)

const identityColumns = "id, provider, issuer, subject, user_id, email, groups, credential, " +
	"created_at, used_at, confirmed_at"

// CreateIdentity stores a new identity with all its fields. It returns ErrConflict if its id is taken, or if the
// provider's account is connected with a user already.
func (tx *Tx) CreateIdentity(i *identity.Identity) error {
	groups, err := asJSON(i.Groups)
	if err != nil {
		return err
	}
	return tx.create("INSERT INTO identities ("+identityColumns+") "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
		args{i.ID, i.Provider, i.Issuer, i.Subject, i.UserID, i.Email, groups, i.Credential, i.CreatedAt.UnixMicro(),
			i.UsedAt.UnixMicro(), i.ConfirmedAt.UnixMicro()})
}

// Identity returns the identity that is the account subject at a provider, or ErrNotFound.
func (tx *Tx) Identity(provider, issuer, subject string) (*identity.Identity, error) {
	found, err := all(tx, "SELECT "+identityColumns+
		" FROM identities WHERE provider = $1 AND issuer = $2 AND subject = $3",
		args{provider, issuer, subject}, scanIdentity)
	return only(found, err)
}

// IdentityByID returns the identity with the given id, or ErrNotFound.
func (tx *Tx) IdentityByID(id string) (*identity.Identity, error) {
	found, err := all(tx, "SELECT "+identityColumns+" FROM identities WHERE id = $1", args{id}, scanIdentity)
	return only(found, err)
}

// Identities returns the identities of a user, the oldest first.
func (tx *Tx) Identities(userID string) ([]*identity.Identity, error) {
	return all(tx, "SELECT "+identityColumns+" FROM identities WHERE user_id = $1 ORDER BY created_at, id",
		args{userID}, scanIdentity)
}

// UseIdentity records that a person has signed in with an identity now: it stores its Email, Groups and Credential. It
// returns ErrNotFound if the identity is no longer connected with that user.
func (tx *Tx) UseIdentity(i *identity.Identity) error {
	groups, err := asJSON(i.Groups)
	if err != nil {
		return err
	}
	return tx.one("UPDATE identities SET email = $3, groups = $4, credential = $5, used_at = $6, "+
		"confirmed_at = $6 WHERE id = $1 AND user_id = $2",
		args{i.ID, i.UserID, i.Email, groups, i.Credential, micros(tx.now)})
}

// ConfirmIdentity records that the provider knows the person now, and replaces the credential old, with which it was
// asked, with credential. It returns false if the identity has another credential by now, or is gone.
func (tx *Tx) ConfirmIdentity(id, old, credential string) (bool, error) {
	n, err := tx.exec("UPDATE identities SET credential = $3, confirmed_at = $4 WHERE id = $1 AND credential = $2",
		args{id, old, credential, micros(tx.now)})
	return n > 0, err
}

// DeleteIdentity deletes an identity of a user. It returns ErrNotFound if the user has none with that id.
func (tx *Tx) DeleteIdentity(id, userID string) error {
	return tx.one("DELETE FROM identities WHERE id = $1 AND user_id = $2", args{id, userID})
}

func scanIdentity(scan func(...any) error) (*identity.Identity, error) {
	i := new(identity.Identity)
	err := scan(&i.ID, &i.Provider, &i.Issuer, &i.Subject, &i.UserID, &i.Email, object{&i.Groups}, &i.Credential,
		instant{&i.CreatedAt}, instant{&i.UsedAt}, instant{&i.ConfirmedAt})
	return i, err
}

// SpendSignIn records that a sign-in at a provider is over, and whom it signed in, so that it signs nobody in again.
// hash identifies it; the record is kept until expiresAt. It returns ErrConflict if it was over before.
func (tx *Tx) SpendSignIn(hash, userID string, expiresAt time.Time) error {
	return tx.create("INSERT INTO spent_sign_ins (hash, user_id, expires_at) VALUES ($1, $2, $3) "+
		"ON CONFLICT DO NOTHING", args{hash, userID, expiresAt.UnixMicro()})
}

// SpentSignIn returns the id of the user whom a sign-in at a provider has signed in, or ErrNotFound if it is not over.
func (tx *Tx) SpentSignIn(hash string) (userID string, err error) {
	err = tx.row("SELECT user_id FROM spent_sign_ins WHERE hash = $1", args{hash}, &userID)
	return userID, err
}
