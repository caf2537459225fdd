package registration_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// Registrations that wait for the database at the same time are stored in one transaction. Each has its own answer and
// its own event, whatever the others are.
func TestRegisteredTogether(t *testing.T) {
	const racers, names, rounds = 60, 6, 3
	for _, engine := range storetest.Engines() {
		dsn, clock := storetest.New(t, engine), storetest.NewClock()
		operator := storetest.Connect(t, dsn, clock) // what it blocks, the nodes read in the transaction
		nodes := []*servertest.Server{servertest.New(t, storetest.Connect(t, dsn, clock), clock),
			servertest.New(t, storetest.Connect(t, dsn, clock), clock)}
		for round := range rounds {
			name := func(i int) string { return fmt.Sprintf("Agent %d of %d", i%names, round) }
			blocked, site := name(0), fmt.Sprintf("blocked%d.example", round)
			if err := operator.Update(t.Context(), func(tx *store.Tx) error {
				return tx.CreateBlock(&oauth.Block{ID: oauth.NewID("blk_"), ClientID: oauth.NewID("mcp_"),
					CreatedAt: tx.Now(), Marks: oauth.Marks{Sites: []string{site}}})
			}); err != nil {
				t.Fatal(err)
			}
			type answer struct {
				*servertest.Reply
				id string
			}
			answers := servertest.AtOnce(racers, func(i int) answer {
				a := nodes[i%len(nodes)].Agent(t, nil)
				members := map[string]any{"client_name": name(i)}
				if name(i) == blocked {
					members["redirect_uris"] = []string{"https://" + site + "/cb"}
				}
				return answer{a.Register(servertest.Metadata(members)), a.ClientID}
			})
			events := map[string]audit.Event{}
			for _, e := range nodes[0].Events("client.register") {
				events[e.RequestID] = e
			}
			ids := map[string]string{}
			for i, got := range answers {
				event, want := events[got.Header.Get("X-Request-Id")], audit.Allowed
				if name(i) == blocked {
					want = audit.Refused
					got.Refused(http.StatusForbidden, "access_denied")
				} else if servertest.Registered(t, got.Reply)["client_name"] != name(i) {
					t.Errorf("%s: %s", name(i), got.Body)
				}
				if event.Outcome != want || event.ClientID != got.id {
					t.Errorf("%s: the event of client %q is %+v", name(i), got.id, event)
				}
				if before, ok := ids[name(i)]; ok && before != got.id {
					t.Errorf("%s is %s and %s", name(i), before, got.id)
				}
				ids[name(i)] = got.id
			}
		}
	}
}

// One that the database does not take does not end the others.
func TestRegisteredWithoutOne(t *testing.T) {
	dsn := storetest.New(t, storetest.SQLite)
	s := servertest.New(t, storetest.Connect(t, dsn, storetest.NewClock()), storetest.NewClock())
	s.MayFault = true
	handle, err := sql.Open("sqlite", strings.TrimPrefix(dsn, "sqlite:"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = handle.Close() }()
	if _, err := handle.ExecContext(t.Context(), "CREATE TRIGGER odd BEFORE INSERT ON clients "+
		"WHEN NEW.metadata LIKE '%Odd 7%' BEGIN SELECT RAISE(ABORT, 'no'); END"); err != nil {
		t.Fatal(err)
	}
	for i, reply := range servertest.AtOnce(40, func(i int) *servertest.Reply {
		return s.Agent(t, nil).Register(servertest.Metadata(map[string]any{"client_name": fmt.Sprintf("Odd %d.", i)}))
	}) {
		if want := i != 7; (reply.Status == http.StatusCreated) != want {
			t.Errorf("%d: status %d: %s", i, reply.Status, reply.Body)
		}
	}
}
