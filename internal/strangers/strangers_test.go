package strangers_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// events returns the number of events of an action, and the sum of their counts.
func events(t *testing.T, db *store.DB, action string) (n, refused int) {
	t.Helper()
	err := db.View(t.Context(), func(tx *store.Tx) error {
		page := store.Page{Limit: 1000}
		for {
			found, next, err := tx.Events(store.EventFilter{Action: action}, page)
			if err != nil {
				return err
			}
			for _, event := range found {
				n++
				count, _ := strconv.Atoi(event.Detail["refused"])
				refused += count
			}
			if next == "" {
				return nil
			}
			page.After = next
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, refused
}

func TestRecorder(t *testing.T) {
	refusal := oauth.Refuse(oauth.InvalidRequest, "that is wrong")
	event := audit.AuthorizationRequest("mcp_x")
	ways := map[string]func(*strangers.Recorder, *store.DB, string) error{
		"Refuse": func(s *strangers.Recorder, _ *store.DB, address string) error {
			return s.Refuse(sender(t, address), event, refusal)
		},
		"Conclude": func(s *strangers.Recorder, db *store.DB, address string) error {
			r := sender(t, address)
			return db.Update(r.Context(), func(tx *store.Tx) error { return s.Conclude(tx, r, event, refusal) })
		},
		"Note": func(s *strangers.Recorder, _ *store.DB, address string) error {
			return s.Note(sender(t, address), event)
		},
	}
	for name, way := range ways {
		t.Run("DC-14 a network of thousands of addresses, by "+name, func(t *testing.T) {
			db, clock := storetest.Open(t, storetest.SQLite)
			minute := func(n int) limit.Rate { return limit.Rate{Every: time.Minute / time.Duration(n), Burst: n} }
			s := &strangers.Recorder{
				DB: db, Failures: limit.New(minute(300), 100_000, clock.Now),
				Recorded: strangers.NewShares(strangers.Network, minute(100), minute(200), 100_000, clock.Now),
			}
			const flood = 2000
			for i := range flood {
				err := way(s, db, fmt.Sprintf("2001:db8:0:%x::1", i))
				if name == "Note" && err != nil || name != "Note" && !errors.Is(err, refusal) {
					t.Fatalf("the answer is %v", err)
				}
			}
			singly, _ := events(t, db, event.Action)
			if singly > 110 || singly < 90 {
				t.Errorf("%d of %d are recorded singly", singly, flood)
			}
			// Other networks are answered and recorded as before.
			for i := range 5 {
				_ = way(s, db, fmt.Sprintf("203.0.%d.7", i))
			}
			if got, _ := events(t, db, event.Action); got != singly+5 {
				t.Errorf("%d of 5 others are recorded", got-singly)
			}
			// A second network is limited by the rest of the common budget.
			for i := range flood {
				_ = way(s, db, fmt.Sprintf("2001:db8:1:%x::1", i))
			}
			for i := range flood {
				_ = way(s, db, fmt.Sprintf("2001:db8:2:%x::1", i))
			}
			singly, _ = events(t, db, event.Action)
			if singly > 230 {
				t.Errorf("%d are recorded singly", singly)
			}
			// The other refusals are only counted.
			clock.Advance(time.Minute)
			if err := s.Tell(t.Context()); err != nil {
				t.Fatal(err)
			}
			if told, refused := events(t, db, "limit."+event.Action); told > 3 || singly+refused != 3*flood+5 {
				t.Errorf("%d events count %d refusals, %d have their own event; want %d together", told, refused,
					singly, 3*flood+5)
			}
			if err := s.Tell(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("one address gets 429", func(t *testing.T) {
		db, clock := storetest.Open(t, storetest.SQLite)
		s := &strangers.Recorder{DB: db, Failures: limit.New(limit.Rate{Every: time.Second, Burst: 10}, 100, clock.Now)}
		for i := range 20 {
			err := s.Refuse(sender(t, "192.0.2.1"), event, refusal)
			if got, ok := oauth.AsRefusal(err); !ok || (got.Code == oauth.TooManyRequests) != (i >= 10) {
				t.Errorf("the answer to the %dth is %v", i+1, err)
			}
		}
	})
}
