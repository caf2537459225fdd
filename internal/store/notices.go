package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Notice is an event about which a person still has to be told by mail.
type Notice struct {
	ID    string // "ntc_…"
	Event audit.Event
}

// A notice is tried again after noticeAgain, and for as long as noticeLifetime.
const (
	noticeAgain    = 10 * time.Minute
	noticeLifetime = 24 * time.Hour
)

// Announce stores a Notice of each event for which worth returns true, in the transaction that records the event. tell
// is called with each Notice of this process once it is committed; it must not block or use the DB. If tell is nil,
// another process tells the person: the Notice is due at once. Call Announce before the DB is used by several
// goroutines.
func (db *DB) Announce(worth func(audit.Event) bool, tell func(Notice)) {
	db.worth, db.tell = worth, tell
}

// announce stores the Notice of an event that is worth one.
func (tx *Tx) announce(event audit.Event) error {
	if tx.db.worth == nil || !tx.db.worth(event) {
		return nil
	}
	event.At = tx.now
	n, due := Notice{oauth.NewID("ntc_"), event}, tx.now
	if tx.db.tell != nil {
		due = tx.now.Add(noticeAgain)
		tx.notices = append(tx.notices, n)
	}
	text, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("store: a notice: %w", err)
	}
	return tx.create("INSERT INTO notices (id, event, due_at, expires_at) VALUES ($1, $2, $3, $4) "+
		"ON CONFLICT DO NOTHING", args{n.ID, string(text), micros(due), micros(tx.now.Add(noticeLifetime))})
}

// HasDueNotices reports whether TakeNotices would return any.
func (tx *Tx) HasDueNotices() (bool, error) {
	var id string
	err := tx.row("SELECT id FROM notices WHERE due_at <= $1 AND expires_at > $1 LIMIT 1", args{micros(tx.now)}, &id)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// TakeNotices returns at most n notices that are due, the longest first, and makes them due again later, so that no
// other process takes them in the meantime.
func (tx *Tx) TakeNotices(n int) ([]Notice, error) {
	return all(tx, "UPDATE notices SET due_at = $2 WHERE due_at <= $1 AND expires_at > $1 AND id IN ("+
		"SELECT id FROM notices WHERE due_at <= $1 AND expires_at > $1 ORDER BY due_at, id "+
		"LIMIT $3) RETURNING id, event",
		args{micros(tx.now), micros(tx.now.Add(noticeAgain)), n}, func(scan func(...any) error) (n Notice, err error) {
			var text string
			if err = scan(&n.ID, &text); err == nil {
				err = json.Unmarshal([]byte(text), &n.Event)
			}
			return n, err
		})
}

// KeepNotice makes a notice due again later, because its person is being told. It returns ErrNotFound if the person was
// told already.
func (tx *Tx) KeepNotice(id string) error {
	return tx.one("UPDATE notices SET due_at = $2 WHERE id = $1", args{id, micros(tx.now.Add(noticeAgain))})
}

// DeleteNotice deletes a notice of which the person was told, or is not to be told. It does nothing if there is none.
func (tx *Tx) DeleteNotice(id string) error {
	_, err := tx.exec("DELETE FROM notices WHERE id = $1", args{id})
	return err
}
