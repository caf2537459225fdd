package store

import "errors"

// ErrNotFound is in the error of a method that looks up, changes or spends one
// thing which is not there, or is not in the state that the method asks for.
var ErrNotFound = errors.New("not found")

// ErrConflict is in the error of a method that creates a thing whose id, hash,
// e-mail address, identifier or fingerprint another one has. The transaction
// goes on.
var ErrConflict = errors.New("already exists")
