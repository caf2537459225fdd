package engine

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/audit"
)

// Tx is a transaction. It is valid until the function that it was passed to returns. After a fault of the database the
// function should return it.
type Tx struct {
	// Now is when the transaction began.
	Now time.Time
	// Committed, if a function sets it, is called after the commit.
	Committed func()

	trace    func(query string, args []any)
	on       connection
	io       context.Context // of the statements
	readOnly bool
	events   []audit.Event
}

// connection runs statements: a *sql.Tx or *sql.DB of PostgreSQL, a *conn of SQLite.
type connection interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

var errReadOnly = errors.New("store: a View cannot write")

// Append adds an event to the audit log, as part of the transaction.
func (tx *Tx) Append(event audit.Event) error {
	if tx.readOnly {
		return errReadOnly
	}
	tx.events = append(tx.events, event)
	return nil
}

// Exec runs a statement that writes and returns the number of rows it changed.
func (tx *Tx) Exec(query string, args []any) (int64, error) {
	if tx.readOnly {
		return 0, errReadOnly
	}
	tx.tell(query, args)
	failpoint("between-writes")
	result, err := tx.on.ExecContext(tx.io, query, Clean(args)...)
	if err != nil {
		return 0, failed(query, err)
	}
	n, err := result.RowsAffected()
	return n, failed(query, err)
}

// Query runs a statement and calls each for every row of its result. The statement has ended when Query returns, so one
// that writes has written.
func (tx *Tx) Query(query string, args []any, each func(scan func(...any) error) error) error {
	if !strings.HasPrefix(query, "SELECT") && !strings.HasPrefix(query, "WITH") {
		if tx.readOnly {
			return errReadOnly
		}
		failpoint("between-writes")
	}
	tx.tell(query, args)
	rows, err := tx.on.QueryContext(tx.io, query, Clean(args)...)
	if err != nil {
		return failed(query, err)
	}
	defer func() { _ = rows.Close() }() // its error is that of rows.Err
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return failed(query, err)
		}
	}
	return failed(query, rows.Err())
}

func (tx *Tx) tell(query string, args []any) {
	if tx.trace != nil {
		tx.trace(query, args)
	}
}

// failed is like Fault, for a statement.
func failed(query string, err error) error {
	if err == nil { // the usual case, which does not need the verb
		return nil
	}
	return Fault(verb(query), err)
}

// verb returns the first words of a statement, which name it in an error because they hold no value.
func verb(query string) string {
	words := strings.Fields(query)
	return strings.ToLower(strings.Join(words[:min(3, len(words))], " "))
}

// Clean replaces what PostgreSQL cannot store in a text, NUL and invalid UTF-8, with U+FFFD. Strangers send both in
// values that are looked up and recorded; no id contains U+FFFD.
func Clean(args []any) []any {
	for i, v := range args {
		if s, ok := v.(string); ok && (strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s)) {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
		}
	}
	return args
}
