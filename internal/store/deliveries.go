package store

import "time"

// Delivery says how far the sealed events were sent to a receiver.
type Delivery struct {
	Sent     int64     // number of the record that is sent next
	Failures int       // since it last succeeded
	NextAt   time.Time // nobody sends before
}

// Delivery returns how far the events were sent to the receiver with the given name, or ErrNotFound.
func (tx *Tx) Delivery(name string) (d Delivery, err error) {
	err = tx.row("SELECT sent, failures, next_at FROM deliveries WHERE name = $1", args{name}, &d.Sent, &d.Failures,
		instant{&d.NextAt})
	return d, err
}

// BeginDeliveries notes a receiver to which events are sent from a number on, unless it is known.
func (tx *Tx) BeginDeliveries(name string, sent int64) error {
	_, err := tx.exec("INSERT INTO deliveries (name, sent, failures, next_at) VALUES ($1, $2, 0, 0) "+
		"ON CONFLICT DO NOTHING", args{name, sent})
	return err
}

// ClaimDelivery lets only the caller send to a receiver until a time. It returns ErrConflict if another one sends, or
// if the receiver is not to be tried again yet.
func (tx *Tx) ClaimDelivery(name string, until time.Time) (d Delivery, err error) {
	found, err := all(tx, "UPDATE deliveries SET next_at = $2 WHERE name = $1 AND next_at <= $3 "+
		"RETURNING sent, failures, next_at", args{name, until.UnixMicro(), tx.now.UnixMicro()},
		func(scan func(...any) error) (d Delivery, err error) {
			return d, scan(&d.Sent, &d.Failures, instant{&d.NextAt})
		})
	if err == nil && len(found) == 0 {
		err = ErrConflict
	}
	if err != nil {
		return d, err
	}
	return found[0], nil
}

// EndDelivery stores how far a receiver is after a claim that began at the record with the number from. It does nothing
// if the receiver was set to another record meanwhile.
func (tx *Tx) EndDelivery(name string, from int64, d Delivery) error {
	_, err := tx.exec("UPDATE deliveries SET sent = $3, failures = $4, next_at = $5 WHERE name = $1 AND sent = $2",
		args{name, from, d.Sent, d.Failures, d.NextAt.UnixMicro()})
	return err
}

// Redeliver makes a receiver get the events from a number on again. It returns ErrNotFound if it is not known.
func (tx *Tx) Redeliver(name string, from int64) error {
	return tx.one("UPDATE deliveries SET sent = $2, failures = 0, next_at = 0 WHERE name = $1", args{name, from})
}
