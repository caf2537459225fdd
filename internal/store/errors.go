package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// ErrNotFound is in the error of a method that looks up, changes or spends one
// thing which is not there, or is not in the state that the method asks for.
var ErrNotFound = errors.New("not found")

// ErrConflict is in the error of a method that creates a thing whose id, hash,
// e-mail address, identifier or fingerprint another one has. The transaction
// goes on.
var ErrConflict = errors.New("already exists")

// fault gives an error of the database its place, and marks it with
// oauth.ErrUnavailable if a later try may not meet it.
func fault(place string, err error) error {
	var connect *pgconn.ConnectError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, oauth.ErrUnavailable):
		return fmt.Errorf("store: %s: %w", place, err)
	case passing(err):
		return fmt.Errorf("store: %s: %w: %w", place, oauth.ErrUnavailable, err)
	case errors.As(err, &connect): // a wrong name or password, or no such database
		return fmt.Errorf("store: PostgreSQL lets nobody in with this URL: %w", err)
	}
	return fmt.Errorf("store: %s: %w", place, err)
}

// passing tells whether err says that the database does not answer for now:
// unreachable, stopping, overloaded, out of space, busy.
func passing(err error) bool {
	var lite *modernc.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM,
			sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return true
		}
		return false
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch class := pg.Code[:min(2, len(pg.Code))]; class {
		case "08", "40", "53", "55", "57", "58": // connection, rollback, resources, not in state, operator, system
			return true
		}
		return pg.Code == "25006" // a standby that is not promoted yet takes no writes
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgx.ErrTxClosed)
}
