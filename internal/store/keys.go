package store

import "time"

// Key is a signing key as it is stored. A zero time means that the event has not happened.
type Key struct {
	KID       string
	Alg       string
	Sealed    string // the private key, sealed under the master key
	Public    string // the public key, a JWK
	CreatedAt time.Time
	ActiveAt  time.Time // when it begins to sign
	RetiredAt time.Time // when it stopped signing
	ExpiresAt time.Time // when it leaves the JWKS
}

// CreateKey stores a new key. It returns ErrConflict if its kid is taken.
func (tx *Tx) CreateKey(k Key) error {
	tx.Touch(Keys)
	return tx.create("INSERT INTO signing_keys (kid, alg, sealed, public, created_at, active_at, retired_at, "+
		"expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
		args{k.KID, k.Alg, k.Sealed, k.Public, k.CreatedAt.UnixMicro(), k.ActiveAt.UnixMicro(), micros(k.RetiredAt),
			micros(k.ExpiresAt)})
}

// Keys returns all keys, oldest first, including those that have left the JWKS and are not swept yet.
func (tx *Tx) Keys() ([]Key, error) {
	return all(tx, "SELECT kid, alg, sealed, public, created_at, active_at, retired_at, expires_at FROM "+
		"signing_keys ORDER BY created_at, kid", nil,
		func(scan func(...any) error) (k Key, err error) {
			err = scan(&k.KID, &k.Alg, &k.Sealed, &k.Public, instant{&k.CreatedAt}, instant{&k.ActiveAt},
				instant{&k.RetiredAt}, instant{&k.ExpiresAt})
			return k, err
		})
}

// UpdateKey stores the times of a key, except CreatedAt, and its Sealed. It returns ErrNotFound if there is no key with
// this kid.
func (tx *Tx) UpdateKey(k Key) error {
	tx.Touch(Keys)
	return tx.one("UPDATE signing_keys SET sealed = $2, active_at = $3, retired_at = $4, expires_at = $5 WHERE kid "+
		"= $1",
		args{k.KID, k.Sealed, k.ActiveAt.UnixMicro(), micros(k.RetiredAt), micros(k.ExpiresAt)})
}

// Setting returns the value of a setting, or ErrNotFound if it is not set.
func (tx *Tx) Setting(name string) (value string, err error) {
	err = tx.row("SELECT value FROM settings WHERE name = $1", args{name}, &value)
	return value, err
}

// SetSettingOnce sets a setting unless it is set, and returns its value. If several callers set it at the same time,
// all get the value of the first.
func (tx *Tx) SetSettingOnce(name, value string) (string, error) {
	if _, err := tx.exec("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		args{name, value}); err != nil {
		return "", err
	}
	return tx.Setting(name)
}
