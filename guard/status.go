package guard

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"golang.org/x/sync/singleflight"
)

// Status says how a guard follows the status lists of the issuer (Token Status List, draft-ietf-oauth-status-list), by
// which it learns of revoked tokens without asking about each. The zero Status is good: the guard follows the lists
// that the tokens name, refuses a revoked token within five seconds, and refuses all while a list is older than a
// minute.
//
// The guard fetches a list when the first token names it, which waits for that, and then every two seconds in the
// background, only if it has changed, until no token has named it for ten minutes. It follows lists at the issuer's
// origin, 64 at most. Tokens that name no list are not looked up, and neither are any with Config.Introspection.
type Status struct {
	// Stale is how old a list may be, for example because the issuer cannot be reached. Zero means a minute. Beyond
	// that, requests are answered with 503, unless FailOpen is true.
	Stale time.Duration

	// FailOpen accepts tokens by the last list, however old, and without one if it was never fetched. A revoked token
	// is then accepted until it expires if its list cannot be fetched.
	FailOpen bool
}

const (
	pollEvery     = 2 * time.Second  // plus or minus a quarter
	pollPatience  = 5 * time.Second  // how long the issuer may take for a list
	followFor     = 10 * time.Minute // after a token last named it
	maxLists      = 64
	maxStatusList = 1 << 20 // bytes of a signed list
	maxStatuses   = 1 << 20 // bytes of its statuses, unpacked
	usualStatuses = 1 << 17 // bytes: Cardea's lists have 2^20 places
	maxStatusURI  = 512
)

// statuses follows the status lists that tokens name.
type statuses struct {
	issuer   *issuer
	origin   string // of the issuer
	stale    time.Duration
	failOpen bool
	now      func() time.Time

	mu    sync.Mutex
	lists map[string]*statusList // by URI
}

// statusList is one list that is followed. Its goroutine ends by itself.
type statusList struct {
	uri   string
	of    *statuses
	since time.Time

	used    atomic.Bool // since the last poll
	content atomic.Pointer[statusContent]
	flight  singleflight.Group

	mu    sync.Mutex
	tried time.Time // when the last fetch began; zero: never
	err   error     // of the last fetch
}

// statusContent is what a list says.
type statusContent struct {
	statuses []byte
	bits     int64     // of each status
	asOf     time.Time // when the issuer said so
	expiry   time.Time // zero: never
	etag     string
}

func newStatuses(i *issuer, u *url.URL, config Status, now func() time.Time) *statuses {
	s := &statuses{issuer: i, origin: u.Scheme + "://" + u.Host, stale: config.Stale, failOpen: config.FailOpen,
		now: now, lists: map[string]*statusList{}}
	if s.stale <= 0 {
		s.stale = time.Minute
	}
	return s
}

// StatusAge returns how old what the guard knows about revoked tokens is: the age of the oldest status list that it
// follows, or zero if it follows none. It is at most a few seconds while the issuer answers.
func (g *Guard) StatusAge() time.Duration {
	g.statuses.mu.Lock()
	defer g.statuses.mu.Unlock()
	var oldest time.Duration
	now := g.now()
	for _, list := range g.statuses.lists {
		asOf := list.since
		if c := list.content.Load(); c != nil {
			asOf = c.asOf
		}
		oldest = max(oldest, now.Sub(asOf))
	}
	return oldest
}

// reference is the place of a token in a status list (Token Status List §6.2).
type reference struct {
	index int64
	uri   string // "": the token is in no list
}

// statusClaim is the claim that names the place (Token Status List §6.1).
type statusClaim struct {
	List *struct {
		Index *int64  `json:"idx"`
		URI   *string `json:"uri"`
	} `json:"status_list"` // nil: another mechanism
}

// reference returns the place that a status claim names, or a sentence that says what is wrong with it.
func (s *statuses) reference(claim *statusClaim) (r reference, fault string) {
	if claim == nil || claim.List == nil {
		return r, ""
	}
	switch list := claim.List; {
	case list.Index == nil || list.URI == nil || *list.Index < 0:
		return r, "The token's status cannot be read."
	case len(*list.URI) > maxStatusURI || !strings.HasPrefix(*list.URI, s.origin+"/") ||
		strings.ContainsAny(*list.URI, "#\\ "):
		return r, "The token's status list is not at the issuer."
	default:
		return reference{*list.Index, *list.URI}, ""
	}
}

// list returns the list at uri, which is followed from now on.
func (s *statuses) list(uri string) *statusList {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list, ok := s.lists[uri]; ok {
		return list
	}
	if len(s.lists) >= maxLists {
		victim := ""
		for uri, list := range s.lists { // one that was not used since its last poll, if there is one
			if victim = uri; !list.used.Load() {
				break
			}
		}
		delete(s.lists, victim)
	}
	list := &statusList{uri: uri, of: s, since: s.now()}
	s.lists[uri] = list
	list.used.Store(true)
	go list.follow()
	return list
}

// follows reports whether list is still followed, and stops that if idle is true.
func (s *statuses) follows(list *statusList, idle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	followed := s.lists[list.uri] == list
	if followed && idle {
		delete(s.lists, list.uri)
		followed = false
	}
	if !followed {
		list.content.Store(nil) // a request that still has it loads the list again
	}
	return followed
}

// follow fetches the list again and again, until nobody uses it.
func (l *statusList) follow() {
	idle := time.Duration(0)
	for {
		pause := about(pollEvery)
		time.Sleep(pause)
		if idle += pause; l.used.Swap(false) {
			idle = 0
		}
		if !l.of.follows(l, idle > followFor) {
			return
		}
		_, _, _ = l.flight.Do("", l.fetch)
	}
}

// about returns d, or up to a quarter more or less, so that the requests of many guards spread.
func about(d time.Duration) time.Duration { return d*3/4 + time.Duration(time.Now().UnixNano())%(d/2) }

// check returns an error unless the token at index counts at now.
func (s *statuses) check(ctx context.Context, list *statusList, index int64, now time.Time) error {
	if !list.used.Load() {
		list.used.Store(true)
	}
	c := list.content.Load()
	if c == nil || s.old(c, now) {
		list = s.list(list.uri)
		var err error
		if c, err = list.fetched(ctx); err != nil || c == nil || s.old(c, s.now()) {
			switch {
			case !s.failOpen:
				if err == nil {
					err = fmt.Errorf("guard: the status list %s is older than %v", list.uri, s.stale)
				}
				return unavailable(err)
			case c == nil:
				return nil
			}
		}
	}
	revoked, known := c.status(index)
	switch {
	case !known:
		return invalidToken("The token's status list has no such place.")
	case revoked:
		return invalidToken("The token was revoked.")
	}
	return nil
}

// old reports whether what a list says must not be believed any more.
func (s *statuses) old(c *statusContent, now time.Time) bool {
	return now.Sub(c.asOf) > s.stale || !c.expiry.IsZero() && !now.Before(c.expiry)
}

// status reports whether the token at index does not count, and whether the list has the index.
func (c *statusContent) status(index int64) (revoked, known bool) {
	each := 8 / c.bits // statuses in a byte, the first in its least significant bits (Token Status List §4.1)
	if index >= int64(len(c.statuses))*each {
		return false, false
	}
	return c.statuses[index/each]>>(index%each*c.bits)&(1<<c.bits-1) != 0, true
}

// fetched waits for the list to be fetched, unless that failed within the interval, and returns what is known of it.
// The error is that of the last fetch.
func (l *statusList) fetched(ctx context.Context) (*statusContent, error) {
	l.mu.Lock()
	soon := l.err != nil && l.of.now().Before(l.tried.Add(pollEvery))
	err := l.err
	l.mu.Unlock()
	if !soon {
		select {
		case done := <-l.flight.DoChan("", l.fetch):
			err = done.Err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return l.content.Load(), err
}

// fetch fetches the list if it has changed.
func (l *statusList) fetch() (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pollPatience)
	defer cancel()
	began := l.of.now()
	known := l.content.Load()
	c, err := l.of.issuer.loadStatus(ctx, l.uri, known, began)
	if err == nil && c != known && !c.expiry.IsZero() && !began.Before(c.expiry) {
		err = fmt.Errorf("guard: %s has expired", l.uri)
	}
	l.mu.Lock()
	failed := l.err != nil
	l.tried, l.err = began, err
	l.mu.Unlock()
	switch {
	case err == nil:
		l.content.Store(c)
		if failed {
			l.of.issuer.log.Info("guard: the status list can be fetched again", "list", l.uri)
		}
	case !failed:
		l.of.issuer.log.Warn("guard: the status list cannot be fetched", "list", l.uri, "error", err)
	}
	return nil, err
}

// loadStatus fetches the list at uri (Token Status List §8.1). known is what it said before, or nil.
func (i *issuer) loadStatus(ctx context.Context, uri string, known *statusContent,
	now time.Time) (*statusContent, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	r.Header.Set("Accept", "application/statuslist+jwt")
	if known != nil && known.etag != "" {
		r.Header.Set("If-None-Match", known.etag)
	}
	resp, err := i.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatusList+1))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var c statusContent
	switch {
	case err != nil:
		return nil, fmt.Errorf("guard: %s: %w", uri, err)
	case resp.StatusCode == http.StatusNotModified && known != nil:
		c = *known
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("guard: %s answered %s", uri, resp.Status)
	case len(body) > maxStatusList:
		return nil, fmt.Errorf("guard: %s is longer than %d bytes", uri, maxStatusList)
	case kind != "application/statuslist+jwt":
		return nil, fmt.Errorf("guard: %s is %q, not a status list", uri, kind)
	default:
		if err := i.readStatus(ctx, uri, string(body), now, &c); err != nil {
			return nil, fmt.Errorf("guard: %s: %w", uri, err)
		}
		c.etag = resp.Header.Get("ETag")
	}
	c.asOf = now
	// A cache sends an Age, and so does an issuer whose database is away.
	if age, err := strconv.ParseUint(resp.Header.Get("Age"), 10, 31); err == nil {
		c.asOf = now.Add(-time.Duration(age) * time.Second)
	}
	return &c, nil
}

// readStatus verifies a signed list and reads it into c (Token Status List §8.3).
func (i *issuer) readStatus(ctx context.Context, uri, raw string, now time.Time, c *statusContent) error {
	signed, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return errors.New("it is not a signed JWT")
	}
	header := signed.Signatures[0].Protected
	kind, _ := header.ExtraHeaders["typ"].(string)
	if !strings.EqualFold(strings.TrimPrefix(kind, "application/"), "statuslist+jwt") {
		return errors.New("its typ is not statuslist+jwt")
	}
	key, _, err := i.key(ctx, header.KeyID)
	switch {
	case err != nil:
		return err
	case key.Algorithm != "" && key.Algorithm != header.Algorithm:
		return errors.New("its alg is not that of its key")
	}
	payload, err := signed.Verify(key.Key)
	if err != nil {
		return errors.New("its signature is wrong")
	}
	var claims struct {
		Subject  string `json:"sub"`
		IssuedAt *date  `json:"iat"`
		Expiry   *date  `json:"exp"`
		List     struct {
			Bits int64  `json:"bits"`
			List string `json:"lst"`
		} `json:"status_list"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return errors.New("its claims cannot be read")
	}
	bits := claims.List.Bits
	switch {
	case claims.Subject != uri:
		return errors.New("its sub is another list")
	case claims.IssuedAt == nil || now.Add(skew).Before(claims.IssuedAt.Time):
		return errors.New("it was issued in the future, or iat is missing")
	case bits != 1 && bits != 2 && bits != 4 && bits != 8:
		return errors.New("its bits are not 1, 2, 4 or 8")
	}
	if claims.Expiry != nil {
		c.expiry = claims.Expiry.Time
	}
	c.bits = bits
	c.statuses, err = unpack(claims.List.List)
	return err
}

// unpack returns the statuses in the lst of a list (Token Status List §4.2).
func unpack(lst string) ([]byte, error) {
	packed, err := base64.RawURLEncoding.DecodeString(lst)
	if err != nil {
		return nil, errors.New("its lst is not base64url")
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errors.New("its lst is not in the zlib format")
	}
	var statuses bytes.Buffer
	statuses.Grow(usualStatuses + bytes.MinRead) // growing bit by bit costs more than reading
	n, err := io.Copy(&statuses, io.LimitReader(r, maxStatuses+1))
	switch {
	case err != nil:
		return nil, errors.New("its lst is not in the zlib format")
	case n > maxStatuses:
		return nil, fmt.Errorf("its lst has more than %d bytes", maxStatuses)
	}
	if n < usualStatuses/2 {
		return bytes.Clone(statuses.Bytes()), nil
	}
	return statuses.Bytes(), nil
}
