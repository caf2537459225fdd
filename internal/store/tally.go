package store

import (
	"context"
	"time"
)

const (
	// settled is how old an event is when it is tallied: another node may have dated one that it has not committed yet,
	// and its clock may be behind.
	settled    = time.Minute
	tallyBatch = 2000  // events counted in one transaction
	freshest   = 50000 // events that Tallies counts itself, at most
)

// The spans of tallies, in microseconds.
const (
	hour = int64(time.Hour / time.Microsecond)
	day  = 24 * hour
)

// active is the action of a tally of clients, and obtained the condition for the events that make a client one.
const (
	active   = "active"
	obtained = "action = 'token.request' AND outcome = 'allowed' AND client_id <> ''"
)

// Tally adds the events that were recorded since it last ran, and are a minute old, to the tallies. It counts each
// event once, also if several nodes call it at the same time, and a few thousand in one Update, so that it does not
// delay others. It returns the number of events it counted; on an error, until then.
func (db *DB) Tally(ctx context.Context) (counted int, err error) {
	for {
		n, err := db.tally(ctx)
		counted += n
		if err != nil || n == 0 {
			return counted, err
		}
	}
}

// tally counts one batch of events and returns how many, or 0 if there are none or another node has just counted them.
func (db *DB) tally(ctx context.Context) (n int, err error) {
	var from, to int64
	var counts []tallied
	err = db.View(ctx, func(tx *Tx) (err error) {
		if from, err = tx.talliedUntil(); err != nil {
			return err
		}
		if err = tx.row("SELECT COUNT(*), COALESCE(MAX(at), 0) FROM (SELECT at FROM events WHERE at > $1 "+
			"AND at <= $2 ORDER BY at LIMIT $3) AS next", args{from, tx.Now().Add(-settled).UnixMicro(), tallyBatch},
			&n, &to); err != nil {
			return err
		}
		// Nobody adds to what has settled, so this may be counted outside of the Update.
		counts, err = all(tx, `SELECT at - at % $3, action, outcome, reason, COUNT(*) FROM events
			WHERE at > $1 AND at <= $2 GROUP BY at - at % $3, action, outcome, reason`,
			args{from, to, hour}, scanTallied)
		return err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	err = db.Update(ctx, func(tx *Tx) error {
		moved, err := tx.exec("UPDATE tallied SET until = $2 WHERE until = $1", args{from, to})
		if err != nil || moved == 0 {
			n = 0
			return err
		}
		for _, span := range []int64{hour, day} {
			fresh, err := tx.activate(span, from, to)
			if err != nil {
				return err
			}
			for _, c := range append(fresh, counts...) {
				if _, err := tx.exec("INSERT INTO tallies (span, begins, action, outcome, reason, n) "+
					"VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (span, begins, action, outcome, reason) DO UPDATE "+
					"SET n = tallies.n + excluded.n",
					args{span, c.begins - c.begins%span, c.action, c.outcome, c.reason, c.n}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return n, err
}

// activate adds the clients that are active for the first time in their span and returns their numbers. It forgets
// some of those whose span is over.
func (tx *Tx) activate(span, from, to int64) ([]tallied, error) {
	if _, err := tx.exec("DELETE FROM active_clients WHERE (span, begins, client_id) IN (SELECT span, begins, "+
		"client_id FROM active_clients WHERE span = $1 AND begins < $2 LIMIT $3)",
		args{span, from - from%span, tallyBatch}); err != nil {
		return nil, err
	}
	numbers := map[int64]int64{}
	err := tx.rows("INSERT INTO active_clients (span, begins, client_id) SELECT DISTINCT CAST($1 AS BIGINT), at - at "+
		"% $1, client_id FROM events WHERE at > $2 AND at <= $3 AND "+obtained+
		" ON CONFLICT DO NOTHING RETURNING begins",
		args{span, from, to}, func(scan func(...any) error) error {
			var begins int64
			err := scan(&begins)
			numbers[begins]++
			return err
		})
	var found []tallied
	for begins, n := range numbers {
		found = append(found, tallied{begins: begins, action: active, n: n})
	}
	return found, err
}

func (tx *Tx) talliedUntil() (until int64, err error) {
	err = tx.row("SELECT until FROM tallied", nil, &until)
	return until, err
}

type tallied struct {
	begins                  int64
	action, outcome, reason string
	n                       int64
}

func scanTallied(scan func(...any) error) (t tallied, err error) {
	err = scan(&t.begins, &t.action, &t.outcome, &t.reason, &t.n)
	return t, err
}

// Count is how many events of one kind there were in one part of a time.
type Count struct {
	Part                    int // 0 is the first
	Action, Outcome, Reason string
	N                       int64
}

// Tallies counts the events from since on, before until, in parts of the length step. since must be at a full hour, and
// step a number of hours; if step is a number of days, since must begin a day (UTC). Events that Tally has not counted
// yet are counted now, 50,000 at most: Tallies has all until the time it returns.
func (tx *Tx) Tallies(since, until time.Time, step time.Duration) (counts []Count, complete time.Time, err error) {
	from, to, width := since.UnixMicro(), until.UnixMicro(), step.Microseconds()
	tallied, err := tx.talliedUntil()
	if err != nil {
		return nil, complete, err
	}
	counts, err = all(tx,
		"SELECT (begins - $1) / $2, action, outcome, reason, CAST(SUM(n) AS BIGINT) FROM tallies WHERE span = $3 "+
			"AND begins >= $1 AND begins < $4 AND action <> '"+active+
			"' GROUP BY (begins - $1) / $2, action, outcome, reason",
		args{from, width, spanOf(width), to}, scanCount)
	if err != nil {
		return nil, complete, err
	}
	var n int
	var last int64
	const fresh = "(SELECT at, action, outcome, reason, client_id FROM events WHERE at > $1 AND at >= $2 AND at < $3 " +
		"ORDER BY at LIMIT $4) AS fresh"
	err = tx.row("SELECT COUNT(*), COALESCE(MAX(at), 0) FROM "+fresh, args{tallied, from, to, freshest}, &n, &last)
	if err != nil {
		return nil, complete, err
	}
	complete = tx.Now()
	if n == freshest {
		complete = time.UnixMicro(last).UTC()
	}
	news, err := all(tx, "SELECT (at - $2) / $5, action, outcome, reason, COUNT(*) FROM "+fresh+
		" GROUP BY (at - $2) / $5, action, outcome, reason", args{tallied, from, to, freshest, width}, scanCount)
	return append(counts, news...), complete, err
}

// ActiveClients returns the number of clients that obtained tokens, for the parts of a time as Tallies has them,
// without those in which there was none. In a part of several days it is the largest number of one day, in one of
// several hours that of one hour.
func (tx *Tx) ActiveClients(since, until time.Time, step time.Duration) (numbers map[int]int64, err error) {
	from, to, width := since.UnixMicro(), until.UnixMicro(), step.Microseconds()
	span := spanOf(width)
	tallied, err := tx.talliedUntil()
	if err != nil {
		return nil, err
	}
	numbers = map[int]int64{}
	most := func(scan func(...any) error) error {
		var part int
		var n int64
		err := scan(&part, &n)
		numbers[part] = max(numbers[part], n)
		return err
	}
	if err := tx.rows("SELECT (begins - $1) / $2, MAX(n) FROM tallies WHERE span = $3 AND begins >= $1 "+
		"AND begins < $4 AND action = '"+
		active+"' GROUP BY (begins - $1) / $2", args{from, width, span, to}, most); err != nil {
		return nil, err
	}
	return numbers, tx.rows(`SELECT (fresh.begins - $1) / $2, COUNT(*) + COALESCE((SELECT n FROM tallies
			WHERE span = $3 AND tallies.begins = fresh.begins AND action = '`+active+`'), 0)
		FROM (SELECT DISTINCT at - at % $3 AS begins, client_id FROM (SELECT at, client_id, action, outcome FROM events
			WHERE at > $4 AND at >= $1 AND at < $5 ORDER BY at LIMIT $6) AS newest WHERE `+obtained+`) AS fresh
		WHERE NOT EXISTS (SELECT 1 FROM active_clients AS known
			WHERE known.span = $3 AND known.begins = fresh.begins AND known.client_id = fresh.client_id)
		GROUP BY fresh.begins`, args{from, width, span, tallied, to, freshest}, most)
}

// spanOf returns the longest span of tallies of which width is a multiple.
func spanOf(width int64) int64 {
	if width%day == 0 {
		return day
	}
	return hour
}

func scanCount(scan func(...any) error) (c Count, err error) {
	err = scan(&c.Part, &c.Action, &c.Outcome, &c.Reason, &c.N)
	return c, err
}
