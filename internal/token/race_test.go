package token_test

import (
	"database/sql"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const racers = 64

// winners returns the tokens of the successful replies, and checks that all others are invalid_grant.
func winners(answers []*servertest.Reply) []servertest.Tokens {
	var won []servertest.Tokens
	for _, answer := range answers {
		if answer.Status == http.StatusOK {
			won = append(won, answer.Tokens())
		} else {
			answer.Refused(http.StatusBadRequest, "invalid_grant")
		}
	}
	return won
}

// ended checks that all the tokens have been revoked.
func ended(t *testing.T, agent *servertest.Agent, tokens ...servertest.Tokens) {
	t.Helper()
	for _, each := range tokens {
		if agent.Active(each.Access) {
			t.Error("an access token outlived its grant")
		}
		if agent.Active(each.Refresh) {
			t.Error("a refresh token outlived its grant")
		}
		agent.Refresh(each.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	}
}

// A code and a refresh token are used many times concurrently, with both databases, at two nodes that share one
// database.
func TestRaces(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		for _, test := range []struct {
			name   string
			rounds int
			grace  time.Duration
			run    func(t *testing.T, w *world)
		}{
			{"TK-05 TK-06 one code redeemed 64 times", 5, 30 * time.Second, redeemedAtOnce},
			{"TK-25 64 refreshes with grace", 3, 30 * time.Second, refreshedAtOnce},
			{"TK-25 64 refreshes without grace", 3, 0, refreshedAtOnceWithoutGrace},
			{"TK-21 TK-22 TK-24 five processes, one lost response", 3, 30 * time.Second, fiveProcesses},
			{"TK-26 old token once the successor was used", 1, 30 * time.Second, overtaken},
			{"TK-28 two generations back within one instant", 1, 30 * time.Second, twoBack},
		} {
			t.Run(string(engine)+"/"+test.name, func(t *testing.T) {
				w := start(t, engine, test.grace)
				for range test.rounds {
					test.run(t, w)
				}
			})
		}
	}
}

// On PostgreSQL, an operator's transaction can run while a code is redeemed.
func TestRevokedWhileRedeemed(t *testing.T) {
	dsn, clock := storetest.New(t, storetest.Postgres), storetest.NewClock()
	s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
	s.Resource(servertest.MCP, "*weather")
	agent := s.Agent(t, s.Client(servertest.Confidential))
	code := s.Browser(t).Authorize(agent.Authorization()).Through(s.User("ada@example.com")).Code()
	handle, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = handle.Close() }()
	waits := func() (waiting bool) {
		err := handle.QueryRowContext(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_stat_activity "+
			"WHERE datname = current_database() AND wait_event_type = 'Lock')").Scan(&waiting)
		if err != nil {
			t.Error(err)
		}
		return waiting || err != nil
	}
	answer := make(chan *servertest.Reply, 1)
	s.Update(func(tx *store.Tx) error {
		grants, _, err := tx.Grants(store.GrantFilter{ClientID: agent.ClientID}, store.Page{})
		if err != nil {
			return err
		}
		if _, err := tx.RevokeGrant(grants[0].ID, "operator"); err != nil {
			return err
		}
		go func() { answer <- agent.Exchange(code) }()
		for !waits() {
			runtime.Gosched()
		}
		return nil
	})
	(<-answer).Refused(http.StatusBadRequest, "invalid_grant")
}

// world has one client and one person at two nodes.
type world struct {
	clock   *storetest.Clock
	nodes   [2]*servertest.Agent
	browser *servertest.Browser
	ada     *servertest.Person
	s       *servertest.Server
}

func start(t *testing.T, engine storetest.Engine, grace time.Duration) *world {
	dsn, clock := storetest.New(t, engine), storetest.NewClock()
	graceIs := func(c *config.Config) { c.Tokens.RefreshGrace = grace }
	s := servertest.New(t, storetest.Connect(t, dsn, clock), clock, graceIs)
	s.Resource(servertest.MCP, "*weather")
	w := &world{clock: clock, s: s, ada: s.User("ada@example.com"), browser: s.Browser(t)}
	client := s.Client(servertest.Confidential)
	second := servertest.New(t, storetest.Connect(t, dsn, clock), clock, graceIs,
		func(c *config.Config) { c.Issuer = s.URL })
	w.nodes = [2]*servertest.Agent{s.Agent(t, client), second.Agent(t, client)}
	return w
}

func (w *world) connect() servertest.Tokens { return w.nodes[0].Connect(w.browser, w.ada) }

func redeemedAtOnce(t *testing.T, w *world) {
	code := w.browser.Authorize(w.nodes[0].Authorization()).Through(w.ada).Code()
	w.nodes[1].Verifier = w.nodes[0].Verifier
	alarms := len(w.s.Events("token.reuse"))
	won := winners(servertest.AtOnce(racers, func(i int) *servertest.Reply { return w.nodes[i%2].Exchange(code) }))
	if len(won) != 1 {
		t.Fatalf("%d redemptions of one code succeeded, want 1", len(won))
	}
	ended(t, w.nodes[0], won...)
	ended(t, w.nodes[1], won...)
	if len(w.s.Events("token.reuse")) == alarms {
		t.Error("a code was used twice, and there is no event")
	}
}

func refreshedAtOnce(t *testing.T, w *world) {
	old := w.connect()
	won := winners(servertest.AtOnce(racers, func(i int) *servertest.Reply {
		return w.nodes[i%2].Refresh(old.Refresh)
	}))
	if len(won) != racers {
		t.Errorf("%d of %d refreshes succeeded within the grace", len(won), racers)
	}
	for _, tokens := range won {
		if tokens.Refresh != won[0].Refresh || tokens.Refresh == old.Refresh {
			t.Fatal("the refreshes have not one and the same successor")
		}
		if !w.nodes[0].Active(tokens.Access) {
			t.Error("an access token of a refresh within the grace is not active")
		}
	}
	w.nodes[1].Refresh(won[0].Refresh).Tokens()
}

func refreshedAtOnceWithoutGrace(t *testing.T, w *world) {
	old := w.connect()
	won := winners(servertest.AtOnce(racers, func(i int) *servertest.Reply {
		return w.nodes[i%2].Refresh(old.Refresh)
	}))
	if len(won) != 1 {
		t.Errorf("%d refreshes succeeded without grace, want 1", len(won))
	}
	ended(t, w.nodes[0], append(won, old)...)
}

// Five processes of one agent share a refresh token. One of them did not receive its response and asks again.
func fiveProcesses(t *testing.T, w *world) {
	old := w.connect()
	w.nodes[0].Refresh(old.Refresh).Tokens() // the response was lost
	w.clock.Advance(10 * time.Second)
	answers := make([]*servertest.Reply, 5)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = w.nodes[i%2].Refresh(old.Refresh) })
	}
	wg.Wait()
	won := winners(answers)
	if len(won) != len(answers) {
		t.Fatalf("%d of %d processes kept the family", len(won), len(answers))
	}
	for _, tokens := range won {
		if tokens.Refresh != won[0].Refresh {
			t.Fatal("TK-22 the processes have different successors")
		}
	}
	// TK-24: the successor is still valid after its predecessor was used again.
	newest := w.nodes[1].Refresh(won[0].Refresh).Tokens()
	if !w.nodes[0].Active(newest.Access) || !w.nodes[0].Active(newest.Refresh) {
		t.Error("TK-24 the family did not survive the race")
	}

	w.clock.Advance(30 * time.Second) // the grace is over
	alarms := len(w.s.Events("token.reuse"))
	w.nodes[0].Refresh(won[0].Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	ended(t, w.nodes[0], append(won, newest)...)
	ended(t, w.nodes[1], append(won, newest)...)
	if got := len(w.s.Events("token.reuse")) - alarms; got != 1 {
		t.Errorf("TK-21 %d alarms, want 1", got)
	}
}

func overtaken(t *testing.T, w *world) {
	first := w.connect()
	second := w.nodes[0].Refresh(first.Refresh).Tokens()
	third := w.nodes[1].Refresh(second.Refresh).Tokens()
	w.nodes[0].Refresh(first.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	ended(t, w.nodes[1], first, second, third)
}

func twoBack(t *testing.T, w *world) {
	tokens := []servertest.Tokens{w.connect()}
	for i := range 3 {
		tokens = append(tokens, w.nodes[i%2].Refresh(tokens[i].Refresh).Tokens())
	}
	w.nodes[0].Refresh(tokens[1].Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	ended(t, w.nodes[0], tokens...)
}
