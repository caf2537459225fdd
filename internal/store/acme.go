package store

import (
	"time"
	"unicode/utf8"
)

// ACMEFile is a file that the ACME client of the server keeps (RFC 8555): an account, a key or a certificate. Its name
// is like a path.
type ACMEFile struct {
	Name       string
	Content    string // sealed
	Size       int64  // of the content before it was sealed
	ModifiedAt time.Time
}

// PutACMEFile stores a file, in place of the one of that name. It sets ModifiedAt.
func (tx *Tx) PutACMEFile(f *ACMEFile) error {
	f.ModifiedAt = tx.now
	_, err := tx.exec("INSERT INTO acme_files (name, content, size, modified_at) VALUES ($1, $2, $3, $4) "+
		"ON CONFLICT (name) DO UPDATE SET content = excluded.content, size = excluded.size, "+
		"modified_at = excluded.modified_at", args{f.Name, f.Content, f.Size, micros(tx.now)})
	return err
}

// ACMEFile returns the file of a name, or ErrNotFound.
func (tx *Tx) ACMEFile(name string) (*ACMEFile, error) {
	f := &ACMEFile{Name: name}
	err := tx.row("SELECT content, size, modified_at FROM acme_files WHERE name = $1", args{name}, &f.Content, &f.Size,
		instant{&f.ModifiedAt})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ACMEFiles returns all files without their contents, by name. There are a few for each name of the server.
func (tx *Tx) ACMEFiles() ([]ACMEFile, error) {
	return all(tx, "SELECT name, size, modified_at FROM acme_files ORDER BY name", nil,
		func(scan func(...any) error) (f ACMEFile, err error) {
			return f, scan(&f.Name, &f.Size, instant{&f.ModifiedAt})
		})
}

// DeleteACMEFiles deletes the file of a name and those below it. It is not an error if there are none.
func (tx *Tx) DeleteACMEFiles(name string) error {
	below := name + "/"
	_, err := tx.exec("DELETE FROM acme_files WHERE name = $1 OR substr(name, 1, $2) = $3",
		args{name, utf8.RuneCountInString(below), below})
	return err
}

// TakeACMELock takes the lock with a name for the time of lease, unless another holder has it. It reports whether it
// did.
func (tx *Tx) TakeACMELock(name, holder string, lease time.Duration) (bool, error) {
	n, err := tx.exec("INSERT INTO acme_locks (name, holder, expires_at) VALUES ($1, $2, $3) "+
		"ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at "+
		"WHERE acme_locks.expires_at <= $4 OR acme_locks.holder = excluded.holder",
		args{name, holder, micros(tx.now.Add(lease)), micros(tx.now)})
	return n > 0, err
}

// FreeACMELock releases a lock, if the holder still has it.
func (tx *Tx) FreeACMELock(name, holder string) error {
	_, err := tx.exec("DELETE FROM acme_locks WHERE name = $1 AND holder = $2", args{name, holder})
	return err
}
