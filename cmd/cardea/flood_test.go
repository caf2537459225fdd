package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	endpoint "github.com/cardea-auth/cardea/internal/registration"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// The flood is here, with what runs without the race detector, which would take
// minutes for it.

// flooded is a registration endpoint without limits of rate, as many addresses
// find it.
type flooded struct {
	*endpoint.Endpoint
	t     *testing.T
	clock *storetest.Clock
}

// register sends a registration straight to the endpoint and returns the client's
// id, or the refusal for now.
func (f *flooded) register(name, method string) (string, error) {
	f.t.Helper()
	body := fmt.Sprintf(`{"client_name":%q,"redirect_uris":["https://a.example/cb"],"token_endpoint_auth_method":%q}`,
		name, method)
	r := httptest.NewRequestWithContext(f.t.Context(), http.MethodPost, "/oauth2/register", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	reply, err := f.Register(r)
	refusal, refused := oauth.AsRefusal(err)
	switch {
	case err == nil:
		return reply.Body.(endpoint.Information).ClientID, nil
	case !refused || refusal.Status() != http.StatusTooManyRequests || refusal.RetryAfter <= 0:
		f.t.Errorf("%s: %v", name, err)
	}
	return "", err
}

// honest is register of a public client that is not to be refused.
func (f *flooded) honest(name string) string {
	f.t.Helper()
	id, err := f.register(name, "none")
	if err != nil {
		f.t.Errorf("%s cannot register: %v", name, err)
	}
	return id
}

// pour registers n clients, one after each pace, and returns how many were
// refused.
func (f *flooded) pour(n int64, pace time.Duration) int64 {
	f.t.Helper()
	var sent, refused atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for sent.Add(1) <= n {
				f.clock.Advance(pace)
				if _, err := f.register("Flood", "client_secret_post"); err != nil {
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return refused.Load()
}

// count returns how many clients nobody uses, and wants them within the bound.
func (f *flooded) count() (unused int) {
	f.t.Helper()
	err := f.DB.View(f.t.Context(), func(tx *store.Tx) (err error) {
		unused, err = tx.UnusedClients()
		return err
	})
	if bound := 10_000; err != nil || unused > bound {
		f.t.Errorf("%d clients that nobody uses, %v; want %d at most", unused, err, bound)
	}
	return unused
}

func (f *flooded) there(id string) bool {
	f.t.Helper()
	err := f.DB.View(f.t.Context(), func(tx *store.Tx) error { _, err := tx.Client(id); return err })
	return err == nil
}

func TestRegistrationFlood(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	f := &flooded{&endpoint.Endpoint{DB: db, Issuer: "https://auth.example.com",
		Strangers: &strangers.Recorder{DB: db}}, t, clock}

	used := f.honest("Used")
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.ClientUsed(used) }); err != nil {
		t.Fatal(err)
	}
	t.Run("DC-14 100,000 registrations in two hours", func(t *testing.T) {
		f.t = t // more than limits.all_registrations lets through
		if n := f.pour(94_000, 72*time.Millisecond); n > 0 {
			t.Errorf("%d were refused, although others were ten minutes old", n)
		}
		f.count()
		between := f.honest("Between")
		if n := f.pour(6_000, 72*time.Millisecond); n > 0 {
			t.Errorf("%d were refused", n)
		}
		f.count()
		if !f.there(between) || f.honest("Between") != between {
			t.Error("a client was pushed out before it had ten minutes to complete a flow")
		}
	})
	t.Run("DC-14 all at once", func(t *testing.T) {
		f.t = t
		clock.Advance(time.Hour)
		if n := f.pour(10_500, 10*time.Millisecond); n < 500 {
			t.Errorf("%d were refused", n)
		}
		if n := f.count(); n < 9_900 {
			t.Errorf("there are %d clients", n)
		}
		// What was being stored counted twice, so that some room may be left.
		for left := 100; ; left-- {
			if _, err := f.register("Flood", "client_secret_post"); err != nil {
				break
			}
			if left == 0 {
				t.Fatal("there is always room")
			}
		}
		f.count()
		if _, err := f.register("Late", "none"); err == nil {
			t.Error("one more was registered")
		}
		if f.honest("Used") != used {
			t.Error("the client in use is not known again")
		}
		clock.Advance(10 * time.Minute)
		late := f.honest("Late")
		if f.count(); !f.there(late) || f.honest("Late") != late {
			t.Error("the honest client is gone")
		}
	})
	t.Run("DC-14 the client in use survives", func(t *testing.T) {
		f.t = t
		if !f.there(used) || f.honest("Used") != used {
			t.Error("it is gone")
		}
	})
}
