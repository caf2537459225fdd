package strangers

import (
	"net/http"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Bounds of concurrent fetches: for one address or one person, for one network, and for all. FetchesAtOnce minus
// ofThoseAtIt are reserved for networks without a fetch under way, so that slow fetches for a few networks do not block
// the others.
const (
	FetchesAtOnce  = 32 // of all
	ofAddress      = 8
	ofNetwork      = 16
	ofThoseAtIt    = 24
	fetchesEndSoon = 5 * time.Second // as long as a fetch may take
)

// Fetches limits the fetches that strangers cause: of metadata documents, key sets and logos together. The limits are
// checked before a fetch begins. The zero value limits only concurrent fetches. It is safe for concurrent use.
type Fetches struct {
	Shares *Shares        // of senders that are not signed in; nil: unlimited
	People *limit.Limiter // by signed-in person; nil: unlimited

	mu        sync.Mutex
	addresses map[string]int // fetches under way
	networks  map[string]int
	all       int
}

// Take takes one fetch from the budget of the sender of r. person is the ID of the signed-in person, or "". The caller
// must call done when the fetch has ended. The error is a refusal with status 429 if the sender has used up its share,
// and with 503 if this server is running too many fetches, which is not the fault of the document.
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
		return nil, oauth.RefuseForNow(after, "this server fetched too many documents for this sender: try again later")
	}
	return nil, oauth.RefuseBusy(after, "this server is running too many fetches at the moment: try again later")
}

// spend takes one fetch from the rate of the sender.
func (f *Fetches) spend(r *http.Request, person string) (verdict, time.Duration) {
	if person == "" {
		return f.Shares.admit(r)
	}
	if ok, after := f.People.Allow(person); !ok {
		return shareUsed, after
	}
	return admitted, 0
}

// begin counts one fetch as under way until done is called.
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

// less decrements the count of key and deletes the key if it reaches zero.
func less(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}
