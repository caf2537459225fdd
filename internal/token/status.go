package token

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

const (
	statusPage      = 200             // grants or blocks that are judged in one View
	statusPatience  = time.Second     // how long a request waits for changes to be judged
	expiredEvery    = time.Second     // how often what expires by itself is looked for
	expiredOverlap  = 5 * time.Second // because clocks of other processes may differ
	statusTTL       = 3               // seconds after which a reader should fetch a list again
	statusLifetime  = 24 * time.Hour  // of a signed list
	resignAfter     = statusLifetime / 2
	judgeAtMost     = 10 * time.Minute // all changes of one turn
	rememberEndedAt = 5 * time.Minute  // a process that has not looked for that long starts over
)

// statusLists are the status lists in memory. They follow the database: each request looks whether something changed,
// and what did is judged by client.Directory.AccessToken, as introspection does.
type statusLists struct {
	mu      sync.Mutex
	lists   map[string]*statusList
	seen    int64            // version of the changes that are judged
	began   time.Time        // when the last turn began, by the clock of the database
	looked  time.Time        // when it began, by the clock of this machine; zero: there was none
	ends    map[string]int64 // the first index of each kind that was not given yet
	running chan struct{}    // closed when the turn under way ends; nil: none is
	err     error            // of the last turn
}

// statusList is one list. Its bits are nil as long as none is set.
type statusList struct {
	bits    []byte
	single  map[int64]bool // indexes of tokens that were revoked one by one
	changed time.Time      // when a bit last changed
	changes int            // of bits

	document []byte // signed; nil: it is out of date
	etag     string
	keys     []byte // the JWKS under which it was signed
	signedAt time.Time
}

// Status answers GET /oauth2/status/{list} with the status list of that name (Token Status List §5.1, §8.1): a JWT
// signed by a key of the JWKS, with one bit for each token, which is 1 if the token no longer counts. It is answered
// from memory, also while the database does not answer, because nothing can be revoked then. It fails only if the
// process has not read the database yet.
func (e *Endpoint) Status(r *http.Request) (web.Reply, error) {
	name := r.PathValue("list")
	kind, number, ok := oauth.ParseStatusList(name)
	if !ok {
		return web.Reply{}, errNoList
	}
	end, err := e.followStatus(r.Context(), kind)
	switch {
	case err != nil:
		return web.Reply{}, err
	case number > end/oauth.StatusListSize+1: // tokens of the next list may have been issued since
		return web.Reply{}, errNoList
	}
	document, etag, err := e.statusDocument(r.Context(), name)
	if err != nil {
		return web.Reply{}, err
	}
	header := http.Header{"Etag": {etag}, "Content-Type": {"application/statuslist+jwt"}}
	for _, known := range strings.Split(strings.Join(r.Header.Values("If-None-Match"), ","), ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == etag || known == "*" {
			header.Del("Content-Type")
			return web.Reply{Status: http.StatusNotModified, Header: header, Quiet: true}, nil
		}
	}
	return web.Reply{Body: json.RawMessage(document), Header: header, Quiet: true}, nil
}

var errNoList = oauth.RefuseStatus(http.StatusNotFound, oauth.InvalidRequest, "there is no status list with this name")

// followStatus makes the lists show what has changed. It waits for that up to a second, and returns the end of the
// indexes of kind.
func (e *Endpoint) followStatus(ctx context.Context, kind string) (end int64, err error) {
	l := &e.lists
	now := time.Now() //nolint:forbidigo // how old the lists are here, whatever time the tests have
	version, answers := e.DB.Version(ctx, store.Statuses)
	l.mu.Lock()
	defer l.mu.Unlock()
	current := l.seen == version && now.Sub(l.looked) < expiredEvery
	if !current && (answers || l.looked.IsZero()) {
		if l.running == nil {
			l.running = make(chan struct{})
			go e.judgeStatus(l.running) //nolint:gosec // for all that wait, so it outlives the request
		}
		running := l.running
		l.mu.Unlock()
		patience := time.NewTimer(statusPatience)
		select {
		case <-running:
		case <-ctx.Done():
		case <-patience.C:
		}
		patience.Stop()
		l.mu.Lock()
	}
	switch {
	case !l.looked.IsZero():
		return l.ends[kind], nil
	case l.err != nil:
		return 0, l.err
	}
	return 0, fmt.Errorf("token: the status lists are not read yet: %w", oauth.ErrUnavailable)
}

// judgeStatus judges what has changed since the last turn, and closes done.
func (e *Endpoint) judgeStatus(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), judgeAtMost)
	defer cancel()
	l := &e.lists
	start := time.Now() //nolint:forbidigo // as in followStatus
	l.mu.Lock()
	seen, since := l.seen, l.began.Add(-expiredOverlap)
	l.mu.Unlock()
	var changes, expired []store.Change
	var began time.Time
	var ends = map[string]int64{}
	err := e.DB.View(ctx, func(tx *store.Tx) (err error) {
		began = tx.Now()
		if began.Sub(since) > rememberEndedAt { // sessions that have expired may be gone
			seen, since = 0, began.Add(-oauth.MaxAccessTTL)
		}
		if seen, changes, err = tx.StatusChanges(seen); err != nil {
			return err
		}
		if expired, err = tx.ExpiredSince(since); err != nil {
			return err
		}
		ends[oauth.GrantStatus], ends[oauth.MachineStatus], err = tx.StatusEnd()
		return err
	})
	for _, change := range append(changes, expired...) {
		if err != nil {
			break
		}
		err = e.judgeChange(ctx, change)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = err; err == nil {
		l.seen, l.began, l.looked, l.ends = seen, began, start, ends
		maps.DeleteFunc(l.lists, func(name string, list *statusList) bool {
			kind, number, _ := oauth.ParseStatusList(name)
			return kind == oauth.MachineStatus && number < ends[kind]/oauth.StatusListSize &&
				began.Sub(list.changed) > 3*oauth.MaxAccessTTL // of which no token is left
		})
	}
	l.running = nil
	close(done)
}

// judgeChange sets the bits of everything that a change is about.
func (e *Endpoint) judgeChange(ctx context.Context, change store.Change) error {
	if change.Subject == store.OneIndex {
		name, text, _ := strings.Cut(change.ID, "/")
		index, err := strconv.ParseInt(text, 10, 64)
		if err != nil || index < 0 || index >= oauth.StatusListSize {
			return fmt.Errorf("token: the index %q of a revoked token cannot be read", change.ID)
		}
		e.lists.revokeOne(name, index, e.DB.Now())
		return nil
	}
	err := judgePages(ctx, e, oauth.GrantStatus,
		func(tx *store.Tx, after *store.StatusGrant) ([]store.StatusGrant, error) {
			return tx.StatusGrants(change, after, statusPage)
		},
		func(g *store.StatusGrant) (first, n int64, claims *oauth.Claims) { return g.Index, 1, &g.Claims })
	if err != nil {
		return err
	}
	return judgePages(ctx, e, oauth.MachineStatus,
		func(tx *store.Tx, after *store.StatusBlock) ([]store.StatusBlock, error) {
			return tx.StatusBlocks(change, after, statusPage)
		},
		func(b *store.StatusBlock) (first, n int64, claims *oauth.Claims) { return b.First, b.Size, &b.Claims })
}

// judgePages sets the bits of a kind for everything that page returns; after is the last of the page before, or nil.
// Indexes returns the first index of one, how many it has, and the claims of its tokens. Each page has a View of its
// own, so that none is long.
func judgePages[T any](ctx context.Context, e *Endpoint, kind string, page func(tx *store.Tx, after *T) ([]T, error),
	indexes func(*T) (first, n int64, claims *oauth.Claims)) error {
	for after := (*T)(nil); ; {
		var all []T
		dead := make([]bool, statusPage)
		err := e.DB.View(ctx, func(tx *store.Tx) (err error) {
			if all, err = page(tx, after); err != nil {
				return err
			}
			for i := range all {
				_, _, claims := indexes(&all[i])
				if dead[i], err = e.ended(tx, claims); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for i := range all {
			first, n, _ := indexes(&all[i])
			e.lists.set(kind, first, n, dead[i], e.DB.Now())
		}
		if len(all) < statusPage {
			return nil
		}
		after = &all[len(all)-1]
	}
}

// ended reports whether tokens with these claims no longer count.
func (e *Endpoint) ended(tx *store.Tx, claims *oauth.Claims) (bool, error) {
	_, err := e.Clients.Directory.AccessToken(tx, claims)
	if oauth.IsRefusal(err) {
		return true, nil
	}
	return false, err
}

// list returns the list with a name. l.mu must be held.
func (l *statusLists) list(name string) *statusList {
	if l.lists == nil {
		l.lists = map[string]*statusList{}
	}
	if l.lists[name] == nil {
		l.lists[name] = &statusList{}
	}
	return l.lists[name]
}

// set sets n bits from the index first of a kind on.
func (l *statusLists) set(kind string, first, n int64, ended bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for index := first; index < first+n; index++ {
		list := l.list(kind + strconv.FormatInt(index/oauth.StatusListSize, 10))
		at := index % oauth.StatusListSize
		list.set(at, ended || list.single[at], now)
	}
}

// revokeOne sets the bit of a token that was revoked by itself. It stays set whatever becomes of its client.
func (l *statusLists) revokeOne(name string, index int64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list(name)
	list.set(index, true, now)
	if !strings.HasPrefix(name, oauth.GrantStatus) { // no grant has the index any more
		if list.single == nil {
			list.single = map[int64]bool{}
		}
		list.single[index] = true
	}
}

func (list *statusList) set(index int64, ended bool, now time.Time) {
	if list.bits == nil {
		if !ended {
			return
		}
		list.bits = make([]byte, oauth.StatusListSize/8)
	}
	// The first token of a byte has its least significant bit (Token Status List §4.1).
	mask := byte(1) << (index % 8)
	if was := list.bits[index/8]&mask != 0; was == ended {
		return
	}
	list.bits[index/8] ^= mask
	list.changed, list.document = now, nil
	list.changes++
}

// statusClaims are the claims of a signed list (Token Status List §5.1).
type statusClaims struct {
	Issuer   string     `json:"iss"`
	Subject  string     `json:"sub"` // its own URI
	IssuedAt int64      `json:"iat"`
	Expiry   int64      `json:"exp"`
	TTL      int64      `json:"ttl"` // seconds after which a reader should fetch it again
	List     statusBits `json:"status_list"`
}

type statusBits struct {
	Bits int    `json:"bits"`
	List string `json:"lst"`
}

// statusDocument returns the signed list with a name, and its ETag.
func (e *Endpoint) statusDocument(ctx context.Context, name string) (document []byte, etag string, err error) {
	keys, err := e.Keys.JWKS(ctx)
	if err != nil {
		return nil, "", err
	}
	l, now := &e.lists, e.DB.Now()
	l.mu.Lock()
	list := l.list(name)
	if list.document != nil && now.Sub(list.signedAt) < resignAfter && bytes.Equal(keys, list.keys) {
		defer l.mu.Unlock()
		return list.document, list.etag, nil
	}
	bits, changes := slices.Clone(list.bits), list.changes
	l.mu.Unlock()

	packed, err := packBits(bits)
	if err != nil {
		return nil, "", err
	}
	signed, err := e.Keys.Sign(ctx, e.SigningAlg, "statuslist+jwt", statusClaims{
		Issuer: e.Issuer, Subject: e.Issuer + oauth.StatusPath + name, IssuedAt: now.Unix(),
		Expiry: now.Add(statusLifetime).Unix(), TTL: statusTTL, List: statusBits{Bits: 1, List: packed},
	})
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256([]byte(signed))
	document, etag = []byte(signed), `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`
	l.mu.Lock()
	defer l.mu.Unlock()
	if list.changes == changes {
		list.document, list.etag, list.keys, list.signedAt = document, etag, keys, now
	}
	return document, etag, nil
}

// packBits returns the lst of a list with these bits; nil means that none is set (Token Status List §4.1, §4.2).
func packBits(bits []byte) (string, error) {
	if bits == nil {
		bits = make([]byte, oauth.StatusListSize/8)
	}
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, zlib.BestCompression)
	if err == nil {
		_, err = w.Write(bits)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return "", fmt.Errorf("token: pack a status list: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b.Bytes()), nil
}

const (
	firstBlock   = 16   // indexes that a client gets at first
	largestBlock = 4096 // and at most at once, when it needs them
	blockFor     = 24 * time.Hour
	maxBlocks    = 10_000 // clients and resources for which this process has a block
)

// statusBlocks are the indexes that this process may give to clients' own tokens. They are reserved in the database a
// block at a time, so that most tokens cost no write but their audit event.
type statusBlocks struct {
	mu     sync.Mutex
	blocks map[string]*statusBlock // by the prefix of the jti
}

type statusBlock struct {
	mu        sync.Mutex
	next, end int64
	size      int64
	until     time.Time // when it is given up
}

// ownIndex returns the index of a client's own token in the status lists of machine clients.
func (e *Endpoint) ownIndex(ctx context.Context, granted *Granted) (int64, error) {
	b := e.blocks.of(oauth.OwnTokenPrefix(granted.Client, granted.Resource))
	b.mu.Lock()
	defer b.mu.Unlock()
	now := e.DB.Now()
	if b.next == b.end || !now.Before(b.until) {
		size := int64(firstBlock)
		if b.size > 0 && now.Before(b.until) { // it was used up early
			size = min(4*b.size, largestBlock)
		}
		err := e.DB.Update(ctx, func(tx *store.Tx) (err error) {
			b.next, err = tx.ReserveStatus(granted.Client, granted.Resource, size,
				now.Add(blockFor+oauth.MaxAccessTTL))
			return err
		})
		if err != nil {
			b.end = b.next
			return 0, err
		}
		b.end, b.size, b.until = b.next+size, size, now.Add(blockFor)
	}
	b.next++
	return b.next - 1, nil
}

func (s *statusBlocks) of(prefix string) *statusBlock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.blocks) >= maxBlocks && s.blocks[prefix] == nil {
		s.blocks = nil // their indexes are never given
	}
	if s.blocks == nil {
		s.blocks = map[string]*statusBlock{}
	}
	if s.blocks[prefix] == nil {
		s.blocks[prefix] = &statusBlock{}
	}
	return s.blocks[prefix]
}
