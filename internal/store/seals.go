package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
)

// Record is an event in the form in which it is sealed.
type Record struct {
	Row  int64 // its place among all events, in the order in which they were recorded
	At   time.Time
	ID   string
	Text []byte // a JSON object; nil if there is no such event
}

// Seal is a record of the sealed log.
type Seal struct {
	Number     int64
	At         time.Time // of the event; the zero time if retention has deleted it
	ID         string    // likewise ""
	Hash, Code []byte
}

// Subtree is the hash of a full subtree of the log: of 256 to the power of Level records, the Number-th of this level.
type Subtree struct {
	Level, Number int64
	Hash          []byte
}

// Checkpoint is a signed state of the log.
type Checkpoint struct {
	Size     int64
	Previous int64 // size of the one before it; 0 if there is none
	At       time.Time
	Note     string
}

// recordText has the columns of an event as they are stored, but at and id. Its JSON is what is hashed, so a member may
// be added if it is left out where it is empty, and nothing else may change.
type recordText struct {
	Action      string `json:"action"`
	Outcome     string `json:"outcome"`
	Reason      string `json:"reason"`
	Description string `json:"description"`
	ClientID    string `json:"client_id"`
	UserID      string `json:"user_id"`
	GrantID     string `json:"grant_id"`
	Resource    string `json:"resource"`
	Scope       string `json:"scope"`
	Detail      string `json:"detail"`
	RequestID   string `json:"request_id"`
	Address     string `json:"address"`
	UserAgent   string `json:"user_agent"`
	ActorType   string `json:"actor_type"`
	ActorID     string `json:"actor_id"`
	ActorName   string `json:"actor_name"`
	Changes     string `json:"changes"`
}

// text returns the record of the event with that time and id, a JSON object. It is what json.Marshal would write, and
// costs a fifth of that, because every event is sealed.
func (t *recordText) text(at time.Time, id string) []byte {
	b := append(make([]byte, 0, 768), `{"at":`...)
	b = strconv.AppendInt(b, at.UnixMicro(), 10)
	b = appendText(append(b, `,"id":`...), id)
	b = appendText(append(b, `,"action":`...), t.Action)
	b = appendText(append(b, `,"outcome":`...), t.Outcome)
	for _, m := range [...]struct{ begin, text string }{
		{`,"reason":`, t.Reason}, {`,"description":`, t.Description}, {`,"client_id":`, t.ClientID},
		{`,"user_id":`, t.UserID}, {`,"grant_id":`, t.GrantID}, {`,"resource":`, t.Resource}, {`,"scope":`, t.Scope},
		{`,"detail":`, t.Detail}, {`,"request_id":`, t.RequestID}, {`,"address":`, t.Address},
		{`,"user_agent":`, t.UserAgent}, {`,"actor_type":`, t.ActorType}, {`,"actor_id":`, t.ActorID},
		{`,"actor_name":`, t.ActorName}, {`,"changes":`, t.Changes},
	} {
		if m.text != "" {
			b = appendText(append(b, m.begin...), m.text)
		}
	}
	return append(b, '}')
}

// appendText appends a text as JSON.
func appendText(b []byte, text string) []byte {
	begin, done := len(b), 0
	b = append(b, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case plain[c]:
		case c == '"' || c == '\\':
			b = append(append(b, text[done:i]...), '\\')
			done = i
		default:
			quoted, _ := json.Marshal(text) // cannot fail: it is a text
			return append(b[:begin], quoted...)
		}
	}
	return append(append(b, text[done:]...), '"')
}

// plain has the bytes that JSON does not escape.
var plain = func() (plain [256]bool) {
	for c := byte(' '); c <= '~'; c++ {
		plain[c] = !strings.ContainsRune(`"\\<>&`, rune(c))
	}
	return plain
}()

// recordColumns are the columns of a record after at and id, of the table or join e. The first tells whether there is
// an event.
const recordColumns = "e.id, e.action, e.outcome, e.reason, e.description, e.client_id, e.user_id, e.grant_id, " +
	"e.resource, e.scope, e.detail, e.request_id, e.address, e.user_agent, e.actor_type, e.actor_id, e.actor_name, " +
	"e.changes"

// scanRecord scans before, then the event of r, whose At and ID are among what before has, from recordColumns.
func scanRecord(scan func(...any) error, r *Record, before ...any) error {
	var t recordText
	there := ""
	into := append(before, maybe{&there}, maybe{&t.Action}, maybe{&t.Outcome}, maybe{&t.Reason}, maybe{&t.Description},
		maybe{&t.ClientID}, maybe{&t.UserID}, maybe{&t.GrantID}, maybe{&t.Resource}, maybe{&t.Scope}, maybe{&t.Detail},
		maybe{&t.RequestID}, maybe{&t.Address}, maybe{&t.UserAgent}, maybe{&t.ActorType}, maybe{&t.ActorID},
		maybe{&t.ActorName}, maybe{&t.Changes})
	if err := scan(into...); err != nil || there == "" {
		return err
	}
	r.Text = t.text(r.At, r.ID)
	return nil
}

// Unsealed returns events that were recorded after the one at a row, at most limit of them, in the order in which they
// were recorded. None that is recorded later comes before them.
func (tx *Tx) Unsealed(after int64, limit int) ([]Record, error) {
	waiting, err := tx.settled(after, limit)
	if err != nil || tx.db.recent.fill(waiting) {
		return waiting, err
	}
	texts := make(map[int64]Record, len(waiting))
	if err := tx.rows("SELECT e.rowid, e.at, e.id, "+recordColumns+
		" FROM events e WHERE e.rowid >= $1 AND e.rowid <= $2",
		args{waiting[0].Row, waiting[len(waiting)-1].Row}, func(scan func(...any) error) error {
			var r Record
			err := scanRecord(scan, &r, &r.Row, instant{&r.At}, &r.ID)
			texts[r.Row] = r
			return err
		}); err != nil {
		return nil, err
	}
	for i, r := range waiting {
		if stored := texts[r.Row]; r.Text == nil && stored.ID == r.ID && stored.At.Equal(r.At) {
			waiting[i].Text = stored.Text
		}
	}
	return waiting, nil
}

// LastRow returns the row of the event that was sealed last, without one the row after which the log begins. It returns
// ErrNotFound if that event was deleted.
func (tx *Tx) LastRow() (row int64, err error) {
	last, err := first(all(tx, "SELECT "+sealColumns+" FROM seals ORDER BY number DESC LIMIT 1", nil, scanSeals))
	if errors.Is(err, ErrNotFound) {
		return tx.number(beginSetting)
	}
	if err != nil || len(last) == 0 {
		return 0, errors.Join(err, ErrNotFound)
	}
	r := last[len(last)-1]
	err = tx.row("SELECT rowid FROM events WHERE at = $1 AND id = $2", args{r.At.UnixMicro(), r.ID}, &row)
	return row, err
}

// NewestRow returns the row of the event that was recorded last, 0 if there is none.
func (tx *Tx) NewestRow() (row int64, err error) {
	err = tx.row("SELECT COALESCE(MAX(rowid), 0) FROM events", nil, &row)
	return row, err
}

const hashSize = 32 // of a seal

// Seal appends records, of which there is at least one, to the log and stores the checkpoint that covers them. It
// returns ErrConflict if the log has grown beyond c.Previous. The transaction must end with its error. The seals are
// numbered one after the other, and their events are those that Unsealed returned.
func (tx *Tx) Seal(c Checkpoint, seals []Seal, subtrees []Subtree) error {
	if err := tx.create("INSERT INTO checkpoints (size, previous, at, note) VALUES ($1, $2, $3, $4) "+
		"ON CONFLICT DO NOTHING", args{c.Size, c.Previous, c.At.UnixMicro(), c.Note}); err != nil {
		return err
	}
	// One row for all of them, because a row for each would cost more than to record the event.
	events, hashes, codes := make([]byte, 0, 48*len(seals)), make([]byte, 0, hashSize*len(seals)), []byte(nil)
	begins, ends := seals[0].At, seals[0].At
	for _, s := range seals {
		events = append(append(append(strconv.AppendInt(events, s.At.UnixMicro(), 10), ' '), s.ID...), '\n')
		hashes, codes = append(hashes, s.Hash...), append(codes, s.Code...)
		if s.At.Before(begins) {
			begins = s.At
		} else if s.At.After(ends) {
			ends = s.At
		}
	}
	if _, err := tx.exec("INSERT INTO seals (number, records, begins, ends, events, hashes, codes) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7)", args{seals[0].Number, len(seals), begins.UnixMicro(), ends.UnixMicro(),
		string(events), hashes, codes}); err != nil {
		return err
	}
	for _, s := range subtrees {
		if _, err := tx.exec("INSERT INTO seal_trees (level, number, hash) VALUES ($1, $2, $3)",
			args{s.Level, s.Number, s.Hash}); err != nil {
			return err
		}
	}
	tx.db.recent.forget(seals)
	return nil
}

// deleteEvents deletes the events of seals and returns how many there were.
func (tx *Tx) deleteEvents(seals []Seal) (deleted int64, err error) {
	for _, s := range seals {
		n, err := tx.exec("DELETE FROM events WHERE at = $1 AND id = $2", args{s.At.UnixMicro(), s.ID})
		deleted += n
		if err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

const checkpointColumns = "size, previous, at, note"

func scanCheckpoint(scan func(...any) error) (c Checkpoint, err error) {
	return c, scan(&c.Size, &c.Previous, instant{&c.At}, &c.Note)
}

// LastCheckpoint returns the newest checkpoint, or ErrNotFound if nothing is sealed.
func (tx *Tx) LastCheckpoint() (Checkpoint, error) {
	return first(all(tx, "SELECT "+checkpointColumns+" FROM checkpoints ORDER BY size DESC LIMIT 1",
		nil, scanCheckpoint))
}

// LastCheckpointBefore returns the newest checkpoint that was signed before a time, or ErrNotFound.
func (tx *Tx) LastCheckpointBefore(at time.Time) (Checkpoint, error) {
	return first(all(tx, "SELECT "+checkpointColumns+
		" FROM checkpoints WHERE at < $1 ORDER BY at DESC, size DESC LIMIT 1",
		args{at.UnixMicro()}, scanCheckpoint))
}

func first[T any](found []T, err error) (t T, _ error) {
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return t, err
	}
	return found[0], nil
}

// Checkpoints returns checkpoints of logs that are larger than size, at most limit of them, the smallest first.
func (tx *Tx) Checkpoints(size int64, limit int) ([]Checkpoint, error) {
	return all(tx, "SELECT "+checkpointColumns+" FROM checkpoints WHERE size > $1 ORDER BY size LIMIT "+
		strconv.Itoa(limit), args{size}, scanCheckpoint)
}

// SealHashes returns the hashes of the subtrees of a level from number first on, before number end, without those that
// are missing. The subtrees of level 0 are the records.
func (tx *Tx) SealHashes(level, first, end int64) ([][]byte, error) {
	if level > 0 {
		return all(tx, "SELECT hash FROM seal_trees WHERE number >= $1 AND number < $2 AND level = $3 ORDER BY number",
			args{first, end, level}, func(scan func(...any) error) (hash []byte, err error) {
				return hash, scan(&hash)
			})
	}
	records, err := tx.seals(first, end)
	hashes := make([][]byte, len(records))
	for i, r := range records {
		hashes[i] = r.Hash
	}
	return hashes, err
}

// SealedRecord is a record of the log with its event.
type SealedRecord struct {
	Seal
	Text []byte // as in Record
}

// sealColumns are the columns that scanSeals scans.
const sealColumns = "number, records, events, hashes, codes"

// scanSeals returns the records of one row. What the row does not have of them is empty.
func scanSeals(scan func(...any) error) ([]SealedRecord, error) {
	var number, n int64
	var events string
	var hashes, codes []byte
	if err := scan(&number, &n, &events, &hashes, &codes); err != nil {
		return nil, err
	}
	if has := int64(len(hashes) / hashSize); n != has { // somebody changed the row
		if n < has {
			codes = nil // so that this shows
		}
		n = min(max(n, has), mostSealed)
	}
	records := make([]SealedRecord, n)
	codeSize := 0
	if n > 0 {
		codeSize = len(codes) / int(n)
	}
	for i := range records {
		r := &records[i]
		r.Number = number + int64(i)
		r.Hash, hashes = beginning(hashes, hashSize)
		r.Code, codes = beginning(codes, codeSize)
		var line string
		line, events, _ = strings.Cut(events, "\n")
		at, id, found := strings.Cut(line, " ")
		if micros, err := strconv.ParseInt(at, 10, 64); found && err == nil {
			r.At, r.ID = time.UnixMicro(micros).UTC(), id
		}
	}
	return records, nil
}

// mostSealed bounds how many records a row is believed to have if it contradicts itself.
const mostSealed = 10000

// beginning splits b after n bytes, or at its end.
func beginning(b []byte, n int) (head, tail []byte) {
	n = min(n, len(b))
	return b[:n:n], b[n:]
}

// seals returns the records of the log from number first on, before number end, without their events.
func (tx *Tx) seals(first, end int64) ([]SealedRecord, error) {
	rows, err := all(tx, "SELECT "+sealColumns+" FROM seals WHERE number >= "+
		"COALESCE((SELECT MAX(number) FROM seals WHERE number <= $1), 0) AND number < $2 ORDER BY number",
		args{first, end}, scanSeals)
	if err != nil {
		return nil, err
	}
	records := slices.Concat(rows...)
	return slices.DeleteFunc(records, func(r SealedRecord) bool { return r.Number < first || r.Number >= end }), nil
}

// Sealed returns records of the log from number first on, at most limit of them, without those that are missing.
func (tx *Tx) Sealed(first int64, limit int) ([]SealedRecord, error) {
	records, err := tx.seals(first, first+int64(limit))
	if err != nil {
		return nil, err
	}
	return records, tx.readTexts(records)
}

// LastSeal returns the number of the last record of the log, or -1 if there is none.
func (tx *Tx) LastSeal() (number int64, err error) {
	err = tx.row("SELECT number + records - 1 FROM seals ORDER BY number DESC LIMIT 1", nil, &number)
	if errors.Is(err, ErrNotFound) {
		return -1, nil
	}
	return number, err
}

// together is how close events are that are read by one statement.
const together = time.Second

// readTexts reads the events of records.
func (tx *Tx) readTexts(records []SealedRecord) error {
	type key struct {
		at int64
		id string
	}
	wanted := make(map[key][]int, len(records))
	var times []int64
	for i, r := range records {
		if r.ID != "" {
			k := key{r.At.UnixMicro(), r.ID}
			wanted[k] = append(wanted[k], i)
			times = append(times, k.at)
		}
	}
	slices.Sort(times)
	for begin := 0; begin < len(times); {
		end := begin + 1
		for end < len(times) && times[end]-times[end-1] <= together.Microseconds() {
			end++
		}
		err := tx.rows("SELECT e.at, e.id, "+recordColumns+" FROM events e WHERE e.at >= $1 AND e.at <= $2",
			args{times[begin], times[end-1]}, func(scan func(...any) error) error {
				var r Record
				if err := scanRecord(scan, &r, instant{&r.At}, &r.ID); err != nil {
					return err
				}
				for _, i := range wanted[key{r.At.UnixMicro(), r.ID}] {
					records[i].Text = r.Text
				}
				return nil
			})
		if err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// SealOf returns the record of an event, or ErrNotFound if it is not sealed.
func (tx *Tx) SealOf(at time.Time, id string) (SealedRecord, error) {
	const pages = 20 // rows read at once: mostly the first has it
	ends, number := at.UnixMicro(), int64(-1)
	for {
		type page struct {
			ends, number int64
			records      []SealedRecord
		}
		rows, err := all(tx, "SELECT ends, number, "+sealColumns+" FROM seals "+
			"WHERE ends >= $1 AND (ends > $1 OR number > $2) AND ends > 0 AND begins <= $3 "+
			"ORDER BY ends, number LIMIT "+strconv.Itoa(pages),
			args{ends, number, at.UnixMicro()}, func(scan func(...any) error) (p page, err error) {
				p.records, err = scanSeals(func(into ...any) error {
					return scan(append([]any{&p.ends, &p.number}, into...)...)
				})
				return p, err
			})
		if err != nil {
			return SealedRecord{}, err
		}
		for _, row := range rows {
			for _, r := range row.records {
				if r.ID == id && r.At.Equal(at) {
					found := []SealedRecord{r}
					err := tx.readTexts(found)
					return found[0], err
				}
			}
			ends, number = row.ends, row.number
		}
		if len(rows) < pages {
			return SealedRecord{}, ErrNotFound
		}
	}
}

// EventState says whether an event is in the sealed log.
type EventState int

// The states of an event.
const (
	LooseEvent   EventState = iota // not in the log, and never will be
	WaitingEvent                   // recorded after what is in the log
	SealedEvent                    // in the log
)

// EventKey names an event, and says whether it is in the log.
type EventKey struct {
	At    time.Time
	ID    string
	State EventState
}

// late is how much later than others an event is sealed if its transaction takes long; later ones are looked up singly.
const late = 10 * time.Minute

// EventKeys returns events after the one with that time and id, at most limit of them, the oldest first.
func (tx *Tx) EventKeys(at time.Time, id string, limit int) ([]EventKey, error) {
	last, err := tx.LastRow()
	if errors.Is(err, ErrNotFound) {
		last, err = math.MaxInt64, nil
	}
	if err != nil {
		return nil, err
	}
	type found struct {
		EventKey
		row int64
	}
	events, err := all(tx, "SELECT at, id, COALESCE(rowid, 0) FROM events WHERE at >= $1 AND (at > $1 OR id > $2) "+
		"ORDER BY at, id LIMIT "+strconv.Itoa(limit), args{at.UnixMicro(), id},
		func(scan func(...any) error) (f found, err error) { return f, scan(instant{&f.At}, &f.ID, &f.row) })
	if err != nil || len(events) == 0 {
		return nil, err
	}
	begin, end := events[0].At.UnixMicro(), events[len(events)-1].At.UnixMicro()
	sealed := map[EventKey]bool{}
	err = tx.rows("SELECT "+sealColumns+" FROM seals WHERE ends >= $1 AND ends <= $2 AND ends > 0 AND begins <= $3",
		args{begin, end + late.Microseconds(), end}, func(scan func(...any) error) error {
			records, err := scanSeals(scan)
			for _, r := range records {
				sealed[EventKey{At: r.At, ID: r.ID}] = true
			}
			return err
		})
	if err != nil {
		return nil, err
	}
	keys := make([]EventKey, len(events))
	for i, e := range events {
		keys[i] = e.EventKey
		switch {
		case sealed[e.EventKey]:
			keys[i].State = SealedEvent
		case e.row > last:
			keys[i].State = WaitingEvent
		default:
			if _, err := tx.SealOf(e.At, e.ID); err == nil {
				keys[i].State = SealedEvent
			} else if !errors.Is(err, ErrNotFound) {
				return nil, err
			}
		}
	}
	return keys, nil
}

// NumberAt returns the number of the first record whose event is dated from a time on, or end if there is none.
func (tx *Tx) NumberAt(at time.Time, end int64) (int64, error) {
	rows, err := all(tx, "SELECT "+sealColumns+
		" FROM seals WHERE ends >= $1 AND ends > 0 ORDER BY ends, number LIMIT 1",
		args{at.UnixMicro()}, scanSeals)
	if err != nil || len(rows) == 0 {
		return end, err
	}
	first := SealedRecord{}
	for _, r := range rows[0] {
		later := first.ID == "" || r.At.Before(first.At) || r.At.Equal(first.At) && r.ID < first.ID
		if r.ID != "" && !r.At.Before(at) && later {
			first = r
		}
	}
	if first.ID == "" {
		return end, nil
	}
	return first.Number, nil
}

// The settings of the log.
const (
	olderSetting    = "events_older"    // a migration sets it
	beginSetting    = "events_begin"    // likewise; row after which the log begins
	emptiedSetting  = "events_emptied"  // number of the first record whose contents retention has not deleted yet
	restoredSetting = "events_restored" // when the database was restored
)

// EventsOlder returns until when there are events that are older than the log; the zero time means that there are none.
func (tx *Tx) EventsOlder() (time.Time, error) {
	micros, err := tx.number(olderSetting)
	if err != nil || micros == 0 {
		return time.Time{}, err
	}
	return time.UnixMicro(micros).UTC(), nil
}

// EventsRestored returns when the database was last restored from a backup; the zero time means never.
func (tx *Tx) EventsRestored() (time.Time, error) {
	micros, err := tx.number(restoredSetting)
	if err != nil || micros == 0 {
		return time.Time{}, err
	}
	return time.UnixMicro(micros).UTC(), nil
}

// noteRestored sets the time that EventsRestored returns.
func (tx *Tx) noteRestored() error { return tx.setNumber(restoredSetting, tx.now.UnixMicro()) }

// setNumber sets a setting that is a number.
func (tx *Tx) setNumber(setting string, n int64) error {
	_, err := tx.exec("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2",
		args{setting, strconv.FormatInt(n, 10)})
	return err
}

// number returns a setting that is a number, 0 if it is not set.
func (tx *Tx) number(setting string) (int64, error) {
	text, err := tx.Setting(setting)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("store: setting %s: %w", setting, err)
	}
	return n, nil
}

// EmptySeals deletes events from the start of the log, about limit, but none of records from number end on, and their
// ids from their seals. It also deletes checkpoints that only such records need. It returns how many records it
// emptied. end is the size of a checkpoint.
func (tx *Tx) EmptySeals(end int64, limit int) (int, error) {
	begin, err := tx.number(emptiedSetting)
	if err != nil || begin >= end {
		return 0, err
	}
	end = min(end, begin+int64(limit))
	records, err := tx.seals(begin, end)
	if err != nil {
		return 0, err
	}
	var seals []Seal
	for _, r := range records {
		if r.ID != "" {
			seals = append(seals, r.Seal)
		}
	}
	if _, err := tx.deleteEvents(seals); err != nil {
		return 0, err
	}
	// A row of which some records stay keeps its ids until the next time, because its seals are in one piece.
	if _, err := tx.exec("UPDATE seals SET begins = 0, ends = 0, events = '' WHERE number >= "+
		"COALESCE((SELECT MAX(number) FROM seals WHERE number <= $1), 0) AND number < $2 AND number + records <= $2",
		args{begin, end}); err != nil {
		return 0, err
	}
	// The last one stays, because it has the root of what was deleted.
	if _, err := tx.exec("DELETE FROM checkpoints WHERE size < (SELECT MAX(size) FROM checkpoints WHERE size <= $1)",
		args{end}); err != nil {
		return 0, err
	}
	return int(end - begin), tx.setNumber(emptiedSetting, end)
}

// DeleteOlder deletes events that are older than the log and than a time, at most limit, and returns how many.
func (tx *Tx) DeleteOlder(before time.Time, limit int) (int, error) {
	older, err := tx.EventsOlder()
	if err != nil || older.IsZero() {
		return 0, err
	}
	if before.After(older) {
		before = older.Add(time.Microsecond)
	}
	keys, err := tx.EventKeys(time.Time{}, "", limit)
	if err != nil {
		return 0, err
	}
	var loose []Seal
	for _, k := range keys {
		if k.State == LooseEvent && k.At.Before(before) {
			loose = append(loose, Seal{At: k.At, ID: k.ID})
		}
	}
	n, err := tx.deleteEvents(loose)
	return int(n), err
}

// Event returns the event of r, whose Text must not be nil.
func (r SealedRecord) Event() (e audit.Event, err error) {
	var t recordText
	if err := json.Unmarshal(r.Text, &t); err != nil {
		return e, fmt.Errorf("store: record %d: %w", r.Number, err)
	}
	e = audit.Event{
		ID: r.ID, At: r.At, Action: t.Action, Outcome: audit.Outcome(t.Outcome), Reason: t.Reason,
		Description: t.Description, ClientID: t.ClientID, UserID: t.UserID, GrantID: t.GrantID, Resource: t.Resource,
		Scope: t.Scope, RequestID: t.RequestID, Address: t.Address, UserAgent: t.UserAgent,
		Actor: audit.Actor{Type: audit.ActorType(t.ActorType), ID: t.ActorID, Name: t.ActorName},
	}
	var changes struct{ Before, After json.RawMessage }
	if err := (object{&e.Detail}).Scan(t.Detail); err != nil {
		return e, fmt.Errorf("store: record %d: %w", r.Number, err)
	}
	if err := (object{&changes}).Scan(t.Changes); err != nil {
		return e, fmt.Errorf("store: record %d: %w", r.Number, err)
	}
	e.Before, e.After = changes.Before, changes.After
	return e, nil
}
