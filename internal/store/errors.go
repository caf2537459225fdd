package store

import (
	"errors"

	"github.com/cardea-auth/cardea/internal/store/engine"
)

// ErrNoFile is returned by Inspect if there is no SQLite file, and Open can create it.
var ErrNoFile = engine.ErrNoFile

// ErrNotFound is returned by a method that looks up, changes or spends a record if the record does not exist, or is not
// in the state that the method requires.
var ErrNotFound = errors.New("not found")

// ErrConflict is returned by a method that creates a record if its id, hash, e-mail address, identifier or fingerprint
// is taken. The transaction can continue.
var ErrConflict = errors.New("already exists")
