package store

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/cardea-auth/cardea/internal/identity"
)

const passkeyColumns = "id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports, " +
	"aaguid, name, created_at, used_at"

// CreatePasskey stores a new passkey with all its fields. It returns ErrConflict if its id or its credential id is
// taken.
func (tx *Tx) CreatePasskey(p *identity.Passkey) error {
	return tx.create("INSERT INTO passkeys ("+passkeyColumns+") "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING",
		args{p.ID, p.UserID, base64url(p.CredentialID), base64url(p.PublicKey), int64(p.SignCount),
			bit(p.BackupEligible), bit(p.BackedUp), strings.Join(p.Transports, " "), p.AAGUID, p.Name,
			p.CreatedAt.UnixMicro(), micros(p.UsedAt)})
}

// Passkey returns the passkey with the given credential id, or ErrNotFound.
func (tx *Tx) Passkey(credentialID []byte) (*identity.Passkey, error) {
	found, err := all(tx, "SELECT "+passkeyColumns+" FROM passkeys WHERE credential_id = $1",
		args{base64url(credentialID)}, scanPasskey)
	return only(found, err)
}

// Passkeys returns the passkeys of a user, the oldest first.
func (tx *Tx) Passkeys(userID string) ([]*identity.Passkey, error) {
	return all(tx, "SELECT "+passkeyColumns+" FROM passkeys WHERE user_id = $1 ORDER BY created_at, id",
		args{userID}, scanPasskey)
}

// HasPasskey reports whether a user has a passkey.
func (tx *Tx) HasPasskey(userID string) (bool, error) {
	var id string
	err := tx.row("SELECT id FROM passkeys WHERE user_id = $1 LIMIT 1", args{userID}, &id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// UsePasskey records that a person has signed in with a passkey now: it stores its SignCount, BackupEligible and
// BackedUp. It returns ErrNotFound if the counter has not risen, because then there are two of the authenticator,
// unless the authenticator does not count; or if the user no longer has the passkey.
func (tx *Tx) UsePasskey(p *identity.Passkey) error {
	return tx.one("UPDATE passkeys SET sign_count = $3, backup_eligible = $4, backed_up = $5, used_at = $6 "+
		"WHERE id = $1 AND user_id = $2 AND (sign_count < $3 OR (sign_count = 0 AND $3 = 0))",
		args{p.ID, p.UserID, int64(p.SignCount), bit(p.BackupEligible), bit(p.BackedUp), micros(tx.now)})
}

// RenamePasskey gives a passkey of a user another name. It returns ErrNotFound if the user has none with that id.
func (tx *Tx) RenamePasskey(id, userID, name string) error {
	return tx.one("UPDATE passkeys SET name = $3 WHERE id = $1 AND user_id = $2", args{id, userID, name})
}

// DeletePasskey deletes a passkey of a user. It returns ErrNotFound if the user has none with that id.
func (tx *Tx) DeletePasskey(id, userID string) error {
	return tx.one("DELETE FROM passkeys WHERE id = $1 AND user_id = $2", args{id, userID})
}

// DeletePasskeys deletes the passkeys of a user, and returns how many there were.
func (tx *Tx) DeletePasskeys(userID string) (int64, error) {
	return tx.exec("DELETE FROM passkeys WHERE user_id = $1", args{userID})
}

func scanPasskey(scan func(...any) error) (*identity.Passkey, error) {
	p := new(identity.Passkey)
	var credentialID, publicKey, transports string
	var signCount int64
	err := scan(&p.ID, &p.UserID, &credentialID, &publicKey, &signCount, flag{&p.BackupEligible},
		flag{&p.BackedUp}, &transports, &p.AAGUID, &p.Name, instant{&p.CreatedAt}, instant{&p.UsedAt})
	if err != nil {
		return nil, err
	}
	p.SignCount, p.Transports = uint32(signCount), strings.Fields(transports) //nolint:gosec // stored from a uint32
	if p.CredentialID, err = base64.RawURLEncoding.DecodeString(credentialID); err == nil {
		p.PublicKey, err = base64.RawURLEncoding.DecodeString(publicKey)
	}
	return p, err
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
