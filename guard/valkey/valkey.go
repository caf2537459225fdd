// Package valkey lets several processes of an MCP server share rate limits, by a Valkey or Redis server:
//
//	shared, err := valkey.New(valkey.Config{URL: "rediss://limits.example.com:6379/0", Prefix: "weather"})
//	…
//	limit := g.LimitRate(guard.RateLimits{Default: guard.Rate{Requests: 100, Per: time.Minute}, Shared: shared.Spend})
//
// While the server does not answer, each process limits by itself, so that nobody is refused and nothing is unlimited.
package valkey

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"

	"github.com/cardea-auth/cardea/guard"
)

var patience = time.Second // for an answer, which a request waits for

const (
	retry       = 2 * time.Second // after a failure; meanwhile nobody waits
	connections = 16              // at most, of a process
)

// Config says where the budgets are kept. URL is required.
type Config struct {
	// URL is redis://[USER:PASSWORD@]HOST[:PORT][/DB], or rediss:// with TLS. valkey:// and valkeys:// mean the same.
	URL string

	// Prefix begins the keys. Processes with the same prefix share budgets. Empty means "cardea".
	Prefix string
}

// Limits keeps the budgets of clients in a Valkey or Redis server. Make it with [New]; its methods may be called
// concurrently.
type Limits struct {
	url    string
	prefix string

	connecting sync.Mutex // is held by the one who looks whether the server answers

	mu     sync.Mutex
	pool   *redis.Pool
	reach  bool      // whether the server has answered since the last failure
	until  time.Time // before which it is not asked
	closed bool
}

// New returns limits for config. It does not connect, so that the order in which servers start does not matter.
func New(config Config) (*Limits, error) {
	u, err := url.Parse(config.URL)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys"}, u.Scheme) ||
		u.Hostname() == "" || !database.MatchString(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("valkey: URL must be like redis://127.0.0.1:6379") // the cause may quote the password
	}
	l := &Limits{url: config.URL, prefix: config.Prefix}
	if l.prefix == "" {
		l.prefix = "cardea"
	}
	l.pool = l.newPool()
	return l, nil
}

// database matches the path of a URL.
var database = regexp.MustCompile(`^(/[0-9]*)?$`)

func (l *Limits) newPool() *redis.Pool {
	return &redis.Pool{MaxIdle: connections, MaxActive: connections, Wait: true, IdleTimeout: time.Minute,
		DialContext: func(ctx context.Context) (redis.Conn, error) {
			return redis.DialURLContext(ctx, l.url, redis.DialConnectTimeout(patience), redis.DialReadTimeout(patience),
				redis.DialWriteTimeout(patience), redis.DialTLSHandshakeTimeout(patience))
		}}
}

// budget spends a part of a client's budget and returns how many seconds to wait, 0 if there was enough. The budget is
// 1 when it is full, and fills within ARGV[1] seconds; the part is 1/ARGV[2]. The clock is that of the server, so that
// it is the same for all processes.
var budget = redis.NewScript(1, `
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local per, cost = tonumber(ARGV[1]), 1 / tonumber(ARGV[2])
local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
local left, at = tonumber(kept[1] or '1') or 1, tonumber(kept[2] or '') or now
left = math.min(1, left + math.max(0, now - at) / per)
if left + 0.000000001 < cost then
	return string.format('%.6f', (cost - left) * per)
end
redis.call('HSET', KEYS[1], 'left', string.format('%.12f', math.max(0, left - cost)), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(per * 1000) + 1000)
return '0'
`)

// Spend takes the cost of a request from the budget of a client, as guard.RateLimits.Shared. The error says that the
// server does not answer.
func (l *Limits) Spend(ctx context.Context, client string,
	allowed guard.Rate) (wait time.Duration, ok bool, err error) {
	if allowed.Requests <= 0 || allowed.Per <= 0 {
		return 0, false, nil
	}
	// A client that disconnects must not make the server look away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	c, pool, err := l.connection(ctx)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = c.Close() }()     // gives it back
	sum := sha256.Sum256([]byte(client)) // so that the server does not hold names, and keys are short
	key := l.prefix + ":limit:" + base64.RawURLEncoding.EncodeToString(sum[:16])
	text, err := redis.String(budget.Do(c, key, allowed.Per.Seconds(), allowed.Requests))
	seconds := 0.0
	if err == nil {
		seconds, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		l.failed(pool)
		return 0, false, fmt.Errorf("valkey: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), seconds == 0, nil
}

var errAway = errors.New("valkey: the server did not answer just now")

// connection returns a connection to the server with its pool, or an error if there was none just now. While it is not
// known whether the server answers, one caller tries and the others do not wait.
func (l *Limits) connection(ctx context.Context) (redis.Conn, *redis.Pool, error) {
	l.mu.Lock()
	pool, reach, closed, until := l.pool, l.reach, l.closed, l.until
	l.mu.Unlock()
	switch {
	case closed:
		return nil, nil, errors.New("valkey: closed")
	case time.Now().Before(until):
		return nil, nil, errAway
	case !reach:
		if !l.connecting.TryLock() {
			return nil, nil, errAway
		}
		defer l.connecting.Unlock()
	}
	c, err := pool.GetContext(ctx)
	if err != nil {
		l.failed(pool)
		return nil, nil, errors.New("valkey: the server cannot be reached") // the cause may quote the password
	}
	if !reach {
		l.mu.Lock()
		l.reach = l.pool == pool
		l.mu.Unlock()
	}
	return c, pool, nil
}

// failed has the server left alone for a while, and drops what is connected to it.
func (l *Limits) failed(pool *redis.Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pool != pool || l.closed {
		return // another caller has said so
	}
	l.until, l.reach, l.pool = time.Now().Add(retry), false, l.newPool()
	_ = pool.Close()
}

// Close ends the connections. Spend returns errors from then on.
func (l *Limits) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	_ = l.pool.Close()
}
