package engine

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
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

// Fault returns an error of the database with the place where it happened, marked with oauth.ErrUnavailable if trying
// again later may succeed. Fault of nil is nil.
func Fault(place string, err error) error {
	var connect *pgconn.ConnectError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, oauth.ErrUnavailable):
		return fmt.Errorf("store: %s: %w", place, err)
	case passing(err):
		return fmt.Errorf("store: %s: %w: %w", place, oauth.ErrUnavailable, err)
	case errors.As(err, &connect): // a wrong name or password, or no such database
		return fmt.Errorf("store: PostgreSQL rejected the connection: %w", err)
	}
	return fmt.Errorf("store: %s: %w", place, err)
}

// Away reports whether err, of opening a database, goes away by itself: PostgreSQL does not answer, or starts, or
// another program has locked the SQLite file. A file that cannot be opened needs somebody to do something.
func Away(err error) bool {
	lite, file := (*modernc.Error)(nil), (*fileError)(nil)
	switch {
	case errors.As(err, &lite):
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY || lite.Code()&0xff == sqlite3.SQLITE_LOCKED
	case errors.As(err, &file):
		return false
	}
	return errors.Is(err, oauth.ErrUnavailable)
}

// passing reports whether err is temporary: the database is unreachable, stopping, overloaded, out of space or busy.
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
		return pg.Code == "25006" // a standby accepts no writes until it is promoted
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, sqldriver.ErrBadConn) ||
		errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgx.ErrTxClosed)
}
