package store

import (
	"strconv"
	"strings"
	"time"
)

// keepReceived is how long an event that was received is recognised when it is sent again.
const keepReceived = 35 * 24 * time.Hour

// receivedAtOnce is the number of rows in one statement of Receive.
const receivedAtOnce = 100

// Receive records that a source sent events with these ids, and returns those that it had not sent before. An id that
// is named twice is returned once.
func (tx *Tx) Receive(source string, ids []string) (fresh []string, err error) {
	for len(ids) > 0 {
		n := min(len(ids), receivedAtOnce)
		a := args{source, micros(tx.now)}
		rows := make([]string, n)
		for i, id := range ids[:n] {
			a = append(a, id)
			rows[i] = "($1, $" + strconv.Itoa(len(a)) + ", $2)"
		}
		some, err := all(tx, "INSERT INTO received_events (source, id, at) VALUES "+strings.Join(rows, ", ")+
			" ON CONFLICT DO NOTHING RETURNING id", a,
			func(scan func(...any) error) (id string, err error) { return id, scan(&id) })
		if err != nil {
			return nil, err
		}
		fresh, ids = append(fresh, some...), ids[n:]
	}
	return fresh, nil
}
