package store

import "time"

// ProfileUse is the number of times that a client profile was used.
type ProfileUse struct {
	Name       string
	Uses       int64
	LastUsedAt time.Time
}

// ProfileUsed counts one more use of a profile.
func (tx *Tx) ProfileUsed(name string) error {
	_, err := tx.exec(`INSERT INTO profile_uses (name, uses, last_used_at) VALUES ($1, 1, $2)
		ON CONFLICT (name) DO UPDATE SET uses = profile_uses.uses + 1, last_used_at = excluded.last_used_at`,
		args{name, micros(tx.now)})
	return err
}

// ProfileUses returns the profiles that were ever used, in no particular order.
func (tx *Tx) ProfileUses() ([]ProfileUse, error) {
	return all(tx, "SELECT name, uses, last_used_at FROM profile_uses", nil,
		func(scan func(...any) error) (u ProfileUse, err error) {
			err = scan(&u.Name, &u.Uses, instant{&u.LastUsedAt})
			return u, err
		})
}
