package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

// Tx is a transaction. It is valid until the function that it was passed to returns. Its methods return ErrNotFound and
// ErrConflict where their comments say so; any other error is a fault of the database, which the function should
// return.
type Tx struct {
	db  *DB
	on  *engine.Tx
	ctx context.Context // of the caller
	now time.Time

	readOnly bool // of a View: what it reads is committed

	touched []Kind
	changes []Change       // that may have ended tokens
	raised  map[Kind]int64 // versions after the commit
	used    []string       // clients of which this process must forget its copy
	notices []Notice       // of which this process tells people
}

// Now returns the time at which the transaction began.
func (tx *Tx) Now() time.Time { return tx.now }

// Address returns the network address that the request of the transaction came from, or "" if there is none.
func (tx *Tx) Address() string { return audit.RequestFrom(tx.ctx).Address }

// In runs fn as part of the request of ctx, which may be another than that of the transaction: what fn records has it.
// If both are traced, the span of that request gets a link to the span of the transaction.
func (tx *Tx) In(ctx context.Context, fn func() error) error {
	if span := trace.SpanContextFromContext(tx.ctx); span.IsSampled() &&
		audit.RequestFrom(ctx).ID != audit.RequestFrom(tx.ctx).ID {
		trace.SpanFromContext(ctx).AddLink(trace.Link{SpanContext: span})
	}
	defer func(before context.Context) { tx.ctx = before }(tx.ctx)
	tx.ctx = ctx
	return fn()
}

// Record writes an event to the audit log as part of the transaction. It adds the request of the context to the event.
func (tx *Tx) Record(event audit.Event) error {
	event = event.Stamp(tx.ctx)
	if err := tx.announce(event); err != nil {
		return err
	}
	return tx.on.Append(event)
}

// Conclude records event with the outcome of err and returns err. The outcome of nil is Allowed; that of a refusal is
// Refused, with its code and description. A fault is returned without being recorded.
func (tx *Tx) Conclude(event audit.Event, err error) error {
	event, decided := conclude(event, err)
	if !decided {
		return err
	}
	if fault := tx.Record(event); fault != nil {
		return fault
	}
	return err
}

// Touch makes every process discard what it has in memory of kind once the transaction is committed. The methods that
// change such data call it.
func (tx *Tx) Touch(kind Kind) {
	if !slices.Contains(tx.touched, kind) {
		tx.touched = append(tx.touched, kind)
	}
}

// settle writes what a transaction leaves for its end. The versions come last and always in the same order, so that
// other transactions on PostgreSQL wait only briefly for them and do not deadlock.
func (tx *Tx) settle() error {
	slices.Sort(tx.touched)
	for _, kind := range tx.touched {
		var version int64
		if err := tx.row("UPDATE versions SET version = version + 1 WHERE kind = $1 RETURNING version",
			args{string(kind)}, &version); err != nil {
			return err
		}
		if kind == Statuses {
			if err := tx.noteChanges(version); err != nil {
				return err
			}
		}
		if tx.raised == nil {
			tx.raised = make(map[Kind]int64)
		}
		tx.raised[kind] = version
	}
	return nil
}

// committed makes this process discard what the transaction changed.
func (tx *Tx) committed() {
	for kind, version := range tx.raised {
		tx.db.versions.raise(kind, version)
	}
	for _, id := range tx.used {
		tx.db.clients.forget(id)
	}
	for _, n := range tx.notices {
		tx.db.tell(n)
	}
}

type args []any

// exec runs a statement that writes and returns how many rows it changed.
func (tx *Tx) exec(query string, a args) (int64, error) {
	return tx.on.Exec(query, a)
}

// one is like exec, for a statement that must change a row. It returns ErrNotFound if the statement changes none.
func (tx *Tx) one(query string, a args) error {
	n, err := tx.exec(query, a)
	if err == nil && n == 0 {
		return ErrNotFound
	}
	return err
}

// create is like exec, for an INSERT … ON CONFLICT DO NOTHING, because an INSERT that fails would end the transaction
// on PostgreSQL. It returns ErrConflict if the statement inserts nothing.
func (tx *Tx) create(query string, a args) error {
	n, err := tx.exec(query, a)
	if err == nil && n == 0 {
		return ErrConflict
	}
	return err
}

// row runs a statement and scans its first row into dest. It returns ErrNotFound if there is none.
func (tx *Tx) row(query string, a args, dest ...any) error {
	found := false
	err := tx.rows(query, a, func(scan func(...any) error) error {
		if found {
			return nil
		}
		found = true
		return scan(dest...)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

// rows runs a statement and calls each for every row of its result. The statement has ended when rows returns, so one
// that writes has written.
func (tx *Tx) rows(query string, a args, each func(scan func(...any) error) error) error {
	return tx.on.Query(query, a, each)
}

// all runs a SELECT and returns its rows, each read by scan.
func all[T any](tx *Tx, query string, a args, scan func(scan func(...any) error) (T, error)) ([]T, error) {
	var found []T
	err := tx.rows(query, a, func(s func(...any) error) error {
		row, err := scan(s)
		found = append(found, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// micros returns a time in the form in which it is stored; the zero time is NULL.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// orNull returns a text in the form in which it is stored where "" is NULL.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// instant scans a stored time into t; NULL is the zero time.
type instant struct{ t *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*i.t = time.Time{}
	case int64:
		*i.t = time.UnixMicro(v).UTC()
	default:
		return fmt.Errorf("a time is stored as %T", src)
	}
	return nil
}

// span scans a stored length of time into d.
type span struct{ d *time.Duration }

// Scan implements sql.Scanner.
func (s span) Scan(src any) error {
	v, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a length of time is stored as %T", src)
	}
	*s.d = time.Duration(v) * time.Microsecond
	return nil
}

// flag scans a stored 0 or 1 into b.
type flag struct{ b *bool }

// Scan implements sql.Scanner.
func (f flag) Scan(src any) error {
	v, ok := src.(int64)
	if !ok {
		return fmt.Errorf("a flag is stored as %T", src)
	}
	*f.b = v == 1
	return nil
}

// bit returns a flag in the form in which it is stored.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// words scans a stored list of words into s; an empty list is nil.
type words[S ~[]string] struct{ s *S }

// Scan implements sql.Scanner.
func (w words[S]) Scan(src any) error {
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("a list of words is stored as %T", src)
	}
	if *w.s = S(strings.Fields(text)); len(*w.s) == 0 {
		*w.s = nil
	}
	return nil
}

// object scans stored JSON into v; "" leaves it as it is.
type object struct{ v any }

// Scan implements sql.Scanner.
func (o object) Scan(src any) error {
	text, ok := src.(string)
	switch {
	case !ok:
		return fmt.Errorf("JSON is stored as %T", src)
	case text == "":
		return nil
	}
	return json.Unmarshal([]byte(text), o.v)
}

// line scans a text that people read and that may be NULL into s, as identity.Line returns it, because it may have been
// stored before such texts had to be lines. NULL is "".
type line struct{ s *string }

// Scan implements sql.Scanner.
func (l line) Scan(src any) error {
	err := maybe(l).Scan(src)
	*l.s = identity.Line(*l.s)
	return err
}

// maybe scans a text that may be NULL into s; NULL is "".
type maybe struct{ s *string }

// Scan implements sql.Scanner.
func (m maybe) Scan(src any) error {
	text, ok := src.(string)
	if !ok && src != nil {
		return fmt.Errorf("a text is stored as %T", src)
	}
	*m.s = text
	return nil
}

func asJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return string(b), nil
}

// where collects the conditions of a list and their values.
type where struct {
	conditions []string
	args       args
}

// add adds a condition in which each ? stands for the next of values. Values are always passed as parameters and never
// become part of the SQL text.
func (w *where) add(condition string, values ...any) {
	for _, v := range values {
		w.args = append(w.args, v)
		condition = strings.Replace(condition, "?", "$"+strconv.Itoa(len(w.args)), 1)
	}
	w.conditions = append(w.conditions, condition)
}

// among adds the condition that a column holds one of values, of which there is at least one.
func (w *where) among(column string, values []string) {
	all := make([]any, len(values))
	for i, v := range values {
		all[i] = v
	}
	w.add(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", all...)
}

// first returns query, a SELECT without its WHERE, for the first rows in an order. If there are parts, these are
// conditions of which each row meets one: the query then takes the first rows of each part, which can have an index of
// its own, and puts them together.
func (w *where) first(query string, parts []string, order string, rows int) string {
	end := " ORDER BY " + order + " LIMIT " + strconv.Itoa(rows)
	queries := make([]string, len(parts))
	for i, part := range parts {
		of := where{conditions: append([]string{part}, w.conditions...)}
		queries[i] = query + of.String() + end
	}
	switch len(parts) {
	case 0:
		return query + w.String() + end
	case 1:
		return queries[0]
	}
	return "SELECT * FROM (" + strings.Join(queries, ") AS part UNION ALL SELECT * FROM (") + ") AS part" + end
}

// String returns the WHERE clause, or "" if there is no condition.
func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}
