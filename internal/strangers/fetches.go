package strangers

import (
	"net/http"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// How many fetches go on at once: for one address or one person, for one network, and for all that have some going on
// already. What is left of all is for those that have none, so that a few whose fetches are never answered keep nobody
// out.
const (
	FetchesAtOnce  = 32 // of all
	ofAddress      = 8
	ofNetwork      = 16
	ofThoseAtIt    = 24
	fetchesEndSoon = 5 * time.Second // as long as fetch has patience
)

// Fetches bounds what strangers have this server fetch: metadata documents, key sets and logos alike. All of it is
// taken before a fetch begins. The zero value bounds how many go on at once alone. It is safe for concurrent use.
type Fetches struct {
	Shares *Shares        // of senders that are not signed in; nil: without limit
	People *limit.Limiter // by person who is signed in; nil: without limit

	mu        sync.Mutex
	addresses map[string]int // going on
	networks  map[string]int
	all       int
}

// Take takes one fetch for the sender of r from the budget; person is the id of who is signed in, "" for nobody. done
// ends it. A refusal is 429 if the sender has had its share, and 503 if this server has too much to fetch: that is
// nobody's fault whose document it is.
func (f *Fetches) Take(r *http.Request, person string) (done func(), err error) {
	if f == nil {
		return func() {}, nil
	}
	address, network := Address(r), Network(r)
	if person != "" {
		address, network = person, person
	}
	done, v := f.begin(address, network)
	after := fetchesEndSoon
	if v == admitted {
		v, after = f.spend(r, person)
	}
	switch {
	case v == admitted:
		return done, nil
	case done != nil:
		done()
	}
	if v == shareUsed {
		return nil, oauth.RefuseForNow(after, "this server had to fetch too much for this sender: try again later")
	}
	return nil, oauth.RefuseBusy(after, "this server has too much to fetch at the moment")
}

// spend takes one from the rate of the sender.
func (f *Fetches) spend(r *http.Request, person string) (verdict, time.Duration) {
	if person == "" {
		return f.Shares.admit(r)
	}
	if ok, after := f.People.Allow(person); !ok {
		return shareUsed, after
	}
	return admitted, 0
}

// begin counts one more that goes on until done.
func (f *Fetches) begin(address, network string) (done func(), v verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.addresses == nil {
		f.addresses, f.networks = map[string]int{}, map[string]int{}
	}
	switch going := f.networks[network]; {
	case f.addresses[address] >= ofAddress, going >= ofNetwork:
		return nil, shareUsed
	case f.all >= FetchesAtOnce, going > 0 && f.all >= ofThoseAtIt:
		return nil, everyoneUsed
	}
	f.addresses[address]++
	f.networks[network]++
	f.all++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all--
		less(f.addresses, address)
		less(f.networks, network)
	}, admitted
}

// less counts one less under key, and forgets a key that has none.
func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}
