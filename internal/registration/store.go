package registration

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// together is how many registrations one transaction stores at most.
const together = 64

// waiting has the registrations that wait for the database. Those that come while it does something else are stored in
// one transaction, which takes much less time than one for each. The zero waiting has none.
type waiting struct {
	mu    sync.Mutex
	group *group // takes more registrations; nil if none does
}

// group is the registrations that one transaction stores.
type group struct {
	all  []*registration
	done chan struct{} // closed when each has its outcome
}

// join adds g to the group that waits, or to a new one, and reports whether it is the first of it.
func (w *waiting) join(g *registration) (in *group, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.group == nil || len(w.group.all) == together {
		w.group, first = &group{done: make(chan struct{})}, true
	}
	w.group.all = append(w.group.all, g)
	return w.group, first
}

// begin lets no more registrations into a group, and returns those in it.
func (w *waiting) begin(g *group) []*registration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.group == g {
		w.group = nil
	}
	return g.all
}

// store stores g as a new client and returns its outcome: nil, a refusal, a fault, or store.ErrConflict if a client has
// the fingerprint. Others that wait for the database at the same time are stored with it. One that spends an initial
// access token is stored alone, because two transactions that spend several tokens could wait for each other.
func (e *Endpoint) store(g *registration) error {
	if e.InitialTokens {
		return e.storeAlone(g)
	}
	in, first := e.waiting.join(g)
	if first {
		e.storeTogether(g.request.Context(), in)
	}
	<-in.done
	return g.err
}

// storeTogether stores the registrations of a group. ctx is of the first of them.
func (e *Endpoint) storeTogether(ctx context.Context, in *group) {
	defer close(in.done)
	ctx = context.WithoutCancel(ctx) // the others do not end with it
	err := e.DB.Update(ctx, func(tx *store.Tx) error { return e.enter(tx, e.waiting.begin(in)) })
	all := e.waiting.begin(in) // if the transaction did not begin
	switch {
	case err == nil:
	case len(all) == 1 || errors.Is(err, oauth.ErrUnavailable):
		for _, g := range all {
			g.err = err
		}
	default: // one of them may be the cause
		for _, g := range all {
			_ = e.storeAlone(g) // g has the outcome
		}
	}
}

// storeAlone stores one registration and returns its outcome.
func (e *Endpoint) storeAlone(g *registration) error {
	err := e.DB.Update(g.request.Context(), func(tx *store.Tx) error { return e.enter(tx, []*registration{g}) })
	if err != nil {
		g.err = err
	}
	return g.err
}

// enter stores the clients of registrations, renews those that are known, spends their initial access tokens, and sets
// and records the outcome of each. It spends a token after all other checks, so that a refused registration does not
// use it up. It returns only faults, and store.ErrNotFound or store.ErrConflict if a token must not be spent, because
// the client was forgotten or registered meanwhile.
func (e *Endpoint) enter(tx *store.Tx, all []*registration) error {
	// Two transactions with the same fingerprints in another order would wait for each other.
	slices.SortFunc(all, func(a, b *registration) int { return strings.Compare(a.fingerprint, b.fingerprint) })
	blocks, err := tx.BlocksNow()
	if err != nil {
		return err
	}
	var clients []store.NewClient
	for _, g := range all {
		if g.err = blocked(blocks, g.candidate()); g.err == nil && e.InitialTokens {
			g.err = g.spend(tx)
		}
		switch {
		case g.err == nil && g.known:
			if err := tx.RenewClient(g.client.ID); err != nil {
				return err
			}
		case g.err == nil:
			g.client = g.newClient(tx)
			clients = append(clients, store.NewClient{Client: g.client, Fingerprint: g.fingerprint})
		case !oauth.IsRefusal(g.err):
			return g.err
		}
	}
	taken, err := tx.CreateClients(clients...)
	if err != nil {
		return err
	}
	for _, g := range all {
		if slices.ContainsFunc(taken, func(c store.NewClient) bool { return c.Client == g.client }) {
			if e.InitialTokens {
				return store.ErrConflict
			}
			g.err = store.ErrConflict
			continue
		}
		if err := e.conclude(tx, g); err != nil {
			return err
		}
	}
	return nil
}

// newClient returns the client of g as it is stored.
func (g *registration) newClient(tx *store.Tx) *oauth.Client {
	c := &oauth.Client{ID: oauth.NewTimedID("mcp_", tx.Now()), Metadata: *g.Metadata, Origin: oauth.ByRegistration,
		CreatedAt: tx.Now()}
	if g.secret != "" {
		c.Secrets = []oauth.Secret{{Hash: oauth.Hash(g.secret), CreatedAt: tx.Now()}}
	}
	if g.token != "" {
		c.RegistrationToken = oauth.Hash(g.token)
	}
	return c
}

// spend spends the initial access token of g.
func (g *registration) spend(tx *store.Tx) (err error) {
	if g.initialID, err = tx.SpendInitialToken(g.initial); errors.Is(err, store.ErrNotFound) {
		err = errInitialToken
	}
	return err
}

// conclude records the outcome of g, which may become another refusal. It returns only faults.
func (e *Endpoint) conclude(tx *store.Tx, g *registration) error {
	event := audit.Registration("", g.Name, false)
	if g.err == nil {
		event = audit.Registration(g.client.ID, g.Name, g.known).With("initial_access_token", g.initialID)
	}
	err := tx.In(g.request.Context(), func() error { return e.Strangers.Conclude(tx, g.request, event, g.err) })
	if oauth.IsRefusal(err) {
		g.err, err = err, nil
	}
	return err
}
