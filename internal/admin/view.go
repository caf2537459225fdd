package admin

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Moment is a point in time, in JSON as RFC 3339 has it. The zero Moment is null.
type Moment struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (m Moment) MarshalJSON() ([]byte, error) {
	if m.IsZero() {
		return []byte("null"), nil
	}
	return m.UTC().MarshalJSON()
}

// String returns the time in UTC for people to read; the zero Moment is a dash.
func (m Moment) String() string {
	if m.IsZero() {
		return "-"
	}
	return m.UTC().Format("2006-01-02 15:04:05Z")
}

// Span is a length of time, in JSON a whole number of seconds.
type Span time.Duration

// MarshalJSON implements json.Marshaler.
func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal(int64(time.Duration(s).Seconds())) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Span) UnmarshalJSON(text []byte) error {
	var seconds int64
	if err := json.Unmarshal(text, &seconds); err != nil {
		return err
	}
	const most = 100 * 366 * 24 * 60 * 60 // years, so that no sum of times overflows
	if seconds < -most || seconds > most {
		return errors.New("a length of time is more than a hundred years")
	}
	*s = Span(time.Duration(seconds) * time.Second)
	return nil
}

// String returns the length for people to read, as in the configuration: 10m, not 10m0s. Zero is a dash.
func (s Span) String() string {
	if s == 0 {
		return "-"
	}
	return oauth.Brief(time.Duration(s))
}

// Deletion is a deleted record, and how many grants ended with it.
type Deletion struct {
	What    string `json:"deleted"` // "client", "resource", "group" or "user"
	ID      string `json:"id"`
	Name    string `json:"name"`
	Grants  int    `json:"grants_ended"`              // those that were in force
	Members int    `json:"members_removed,omitempty"` // of a group
}
