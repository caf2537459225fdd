package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestConclude(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		ctx := audit.WithRequest(t.Context(), audit.Request{ID: "req_1", Address: "192.0.2.1", UserAgent: "curl"})
		refusal := oauth.Refuse(oauth.InvalidGrant, "the code has expired")
		event := audit.TokenRequest("mcp_1", "authorization_code")
		event.Scope, event.Resource, event.GrantID, event.UserID = "a b", "https://x", "grt_1", "usr_1"
		want := event
		want.At, want.RequestID, want.Address, want.UserAgent = clock.Now(), "req_1", "192.0.2.1", "curl"

		for name, conclude := range map[string]func(error) error{
			"in a transaction": func(err error) error {
				return db.Update(ctx, func(tx *store.Tx) error { return tx.Conclude(event, err) })
			},
			"outside of one": func(err error) error { return db.Conclude(ctx, event, err) },
		} {
			t.Run(name, func(t *testing.T) {
				before := len(events(t, db, store.EventFilter{}))
				for _, outcome := range []error{nil, refusal, errFault} {
					if err := conclude(outcome); err != outcome {
						t.Errorf("Conclude(%v) = %v", outcome, err)
					}
				}
				got := events(t, db, store.EventFilter{})[before:]
				if len(got) != 2 {
					t.Fatalf("%d events, want 2: a fault is not a decision", len(got))
				}
				allowed, refused := want, want
				allowed.Outcome = audit.Allowed
				refused.Outcome, refused.Reason, refused.Description =
					audit.Refused, "invalid_grant", "the code has expired"
				for i, want := range []audit.Event{allowed, refused} {
					if !strings.HasPrefix(got[i].ID, "evt_") || got[i].At.Before(want.At) {
						t.Errorf("id %q at %v", got[i].ID, got[i].At)
					}
					want.ID, want.At = got[i].ID, got[i].At
					if diff := cmp.Diff(want, got[i]); diff != "" {
						t.Error(diff)
					}
				}
			})
		}
		for name, tt := range map[string]struct {
			event audit.Event
			err   error
			under audit.Actor // of the context
			want  audit.Actor
		}{
			"a client that proved itself": {audit.TokenRequest("mcp_1", ""), refusal, audit.Actor{},
				audit.Actor{Type: audit.ByClient, ID: "mcp_1"}},
			"a client that only claims its id": {audit.Introspection("mcp_1", ""),
				oauth.Refuse(oauth.InvalidClient, "wrong secret"), audit.Actor{}, audit.Actor{}},
			"a wrong registration access token": {audit.Management("update", "mcp_1"),
				oauth.Refuse(oauth.InvalidToken, "wrong"), audit.Actor{}, audit.Actor{}},
			"a client that is not known": {audit.TokenRequest("", ""), refusal, audit.Actor{}, audit.Actor{}},
			"a person who consents": {audit.Consent("mcp_1", "usr_1", "", ""), nil, audit.Actor{},
				audit.Actor{Type: audit.ByUser, ID: "usr_1"}},
			"a person who signs in": {audit.SignIn("usr_1"), nil, audit.Actor{},
				audit.Actor{Type: audit.ByUser, ID: "usr_1"}},
			"a person who fails to sign in": {audit.SignIn("usr_1"), refusal, audit.Actor{}, audit.Actor{}},
			"an operator": {audit.Client("disable", "mcp_1"), nil,
				audit.Actor{Type: audit.ByCommand, ID: "ada", Name: "ada@host"},
				audit.Actor{Type: audit.ByCommand, ID: "ada", Name: "ada@host"}},
		} {
			t.Run("the actor is "+name, func(t *testing.T) {
				ctx := t.Context()
				if tt.under != (audit.Actor{}) {
					ctx = audit.WithActor(ctx, tt.under)
				}
				before := len(events(t, db, store.EventFilter{}))
				if err := db.Conclude(ctx, tt.event, tt.err); err != tt.err {
					t.Fatal(err)
				}
				if got := events(t, db, store.EventFilter{})[before:]; len(got) != 1 || got[0].Actor != tt.want {
					t.Errorf("recorded %+v, want the actor %+v", got, tt.want)
				}
			})
		}
		t.Run("nothing is answered that cannot be recorded", func(t *testing.T) {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			for _, outcome := range []error{nil, refusal} {
				if err := db.Conclude(ctx, event, outcome); !errors.Is(err, oauth.ErrUnavailable) {
					t.Errorf("Conclude(%v) = %v", outcome, err)
				}
			}
		})
	})
}

func TestEventsAreInOrder(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		var wg sync.WaitGroup
		for worker := range 16 {
			wg.Go(func() {
				for i := range 20 {
					user := fmt.Sprintf("usr_%d", worker)
					var err error
					if i%2 == 0 {
						err = db.Append(t.Context(), audit.SignIn(user).With("n", fmt.Sprint(i)), audit.SignOut(user))
					} else {
						err = db.Update(t.Context(),
							func(tx *store.Tx) error { return tx.Record(audit.SignIn(user).With("n", fmt.Sprint(i))) })
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		clock.Advance(-time.Hour) // a clock that is set back reorders nothing
		if err := db.Append(t.Context(), audit.SignOut("last")); err != nil {
			t.Fatal(err)
		}
		all := events(t, db, store.EventFilter{})
		if len(all) != 16*30+1 || all[len(all)-1].UserID != "last" {
			t.Fatalf("%d events, the last by %q", len(all), all[len(all)-1].UserID)
		}
		next := map[string]int{}
		for i, e := range all {
			if i > 0 && !e.At.After(all[i-1].At) {
				t.Fatalf("event %d at %v, after one at %v", i, e.At, all[i-1].At)
			}
			if n := e.Detail["n"]; n != "" {
				if n != fmt.Sprint(next[e.UserID]) {
					t.Errorf("%s: event %s, want %d", e.UserID, n, next[e.UserID])
				}
				next[e.UserID]++
			}
		}
	})
}

func TestEvents(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		var requests [12]string
		for i := range 12 {
			clock.Set(storetest.Start.Add(time.Duration(i) * time.Minute))
			requests[i] = oauth.NewTimedID("", clock.Now())
			e := audit.TokenRequest("mcp_a", "refresh_token")
			if i%2 == 1 {
				e = audit.SignIn("usr_a")
			}
			if i%3 == 0 {
				e.Outcome, e.GrantID = audit.Refused, "grt_a"
			} else {
				e.Outcome = audit.Allowed
			}
			e = e.With("n", fmt.Sprint(i))
			ctx := audit.WithRequest(t.Context(), audit.Request{ID: requests[i], Address: fmt.Sprint("192.0.2.", i%5)})
			switch i {
			case 4:
				e.Resource = "https://mcp.example.com"
			case 5: // an operator's program that acts on a client
				e.ClientID = "mcp_b"
				ctx = audit.WithActor(ctx, audit.Actor{Type: audit.ByClient, ID: "mcp_a"})
			case 7:
				ctx = audit.WithActor(ctx, audit.Actor{Type: audit.ByCommand, ID: "usr_a"})
			}
			if err := db.Append(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		minute := func(n int) time.Time { return storetest.Start.Add(time.Duration(n) * time.Minute) }
		for name, c := range map[string]struct {
			filter store.EventFilter
			want   string
		}{
			"all":             {store.EventFilter{}, "0 1 2 3 4 5 6 7 8 9 10 11"},
			"by client":       {store.EventFilter{ClientID: "mcp_a"}, "0 2 4 6 8 10"},
			"by user":         {store.EventFilter{UserID: "usr_a"}, "1 3 5 7 9 11"},
			"by grant":        {store.EventFilter{GrantID: "grt_a"}, "0 3 6 9"},
			"by action":       {store.EventFilter{Action: "token."}, "0 2 4 6 8 10"},
			"no wildcards":    {store.EventFilter{Action: "t%"}, ""},
			"case counts":     {store.EventFilter{Action: "TOKEN"}, ""},
			"by outcome":      {store.EventFilter{Outcome: audit.Refused}, "0 3 6 9"},
			"since and until": {store.EventFilter{Since: minute(3), Until: minute(6)}, "3 4 5"},
			"all together": {store.EventFilter{Action: "login", UserID: "usr_a", GrantID: "grt_a",
				Outcome: audit.Refused, Since: minute(4), Until: minute(10)}, "9"},
			"by request":              {store.EventFilter{RequestID: requests[5]}, "5"},
			"a token by request":      {store.EventFilter{RequestID: requests[6]}, "6"},
			"by no request":           {store.EventFilter{RequestID: "req_1"}, ""},
			"by address":              {store.EventFilter{Address: "192.0.2.1"}, "1 6 11"},
			"by resource":             {store.EventFilter{Resource: "https://mcp.example.com"}, "4"},
			"by actor":                {store.EventFilter{Actor: "mcp_a"}, "0 2 4 5 6 8 10"},
			"by actor of a type":      {store.EventFilter{Actor: "command:usr_a"}, "7"},
			"a person as actor":       {store.EventFilter{Actor: "user:usr_a"}, "1 3 9 11"},
			"a client as actor":       {store.EventFilter{Actor: "client:mcp_a", Action: "token"}, "0 2 4 6 8 10"},
			"a program on a client":   {store.EventFilter{Actor: "client:mcp_a", ClientID: "mcp_b"}, "5"},
			"request and outcome":     {store.EventFilter{RequestID: requests[5], Outcome: audit.Allowed}, "5"},
			"address and actor":       {store.EventFilter{Address: "192.0.2.1", Actor: "mcp_a"}, "6"},
			"all actions":             {store.EventFilter{Action: "l", Outcome: audit.Allowed}, "1 5 7 11"},
			"nothing":                 {store.EventFilter{ClientID: "mcp_c"}, ""},
			"an injection is a value": {store.EventFilter{ClientID: "' OR 1=1 --"}, ""},
		} {
			t.Run(name, func(t *testing.T) {
				for _, newest := range []bool{false, true} {
					var got []string
					for page := (store.Page{Limit: 2, Newest: newest}); ; {
						view(t, db, func(tx *store.Tx) error {
							found, next, err := tx.Events(c.filter, page)
							for _, e := range found {
								got = append(got, e.Detail["n"])
							}
							if len(found) > 2 {
								t.Errorf("a page of %d, want 2 at most", len(found))
							}
							page.After = next
							return err
						})
						if page.After == "" {
							break
						}
					}
					want := strings.Fields(c.want)
					if newest {
						for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
							want[i], want[j] = want[j], want[i]
						}
					}
					if strings.Join(got, " ") != strings.Join(want, " ") {
						t.Errorf("newest first %v: got %v, want %v", newest, got, want)
					}
				}
			})
		}
		t.Run("a forged cursor is refused", func(t *testing.T) {
			for _, cursor := range []string{"x", "!", "MTIz", "LCw"} {
				err := db.View(t.Context(), func(tx *store.Tx) error {
					_, _, err := tx.Events(store.EventFilter{}, store.Page{After: cursor})
					return err
				})
				if _, refused := oauth.AsRefusal(err); !refused {
					t.Errorf("%q: %v", cursor, err)
				}
			}
		})
	})
}

// Strangers' bytes reach the audit log and the lookups: neither may fault on them.
func TestStrangersText(t *testing.T) {
	storetest.All(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		for _, text := range []string{
			"a\x00b", "a\xffb", strings.Repeat("é", 300), "a\u202eb", "'; DROP TABLE events; --", "$1",
		} {
			ctx := audit.WithRequest(t.Context(), audit.Request{ID: "r", UserAgent: text})
			e := audit.SignIn("").With("x\x00", text)
			e.ClientID, e.Outcome = text, audit.Refused
			if err := db.Append(ctx, e); err != nil {
				t.Errorf("Append %q: %v", text, err)
			}
			if _, err := db.Client(t.Context(), text); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("Client %q: %v", text, err)
			}
			err := db.View(t.Context(), func(tx *store.Tx) error {
				_, err := tx.UserByEmail(text)
				return err
			})
			if !errors.Is(err, store.ErrNotFound) {
				t.Errorf("UserByEmail %q: %v", text, err)
			}
		}
		if n := len(events(t, db, store.EventFilter{})); n != 6 {
			t.Errorf("%d events, want 6", n)
		}
	})
}
