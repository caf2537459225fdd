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
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/cardea-auth/cardea/guard"
)

const (
	patience = time.Second     // for an answer, which a request waits for
	retry    = 2 * time.Second // after a failure; meanwhile nobody waits
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
	option valkey.ClientOption
	prefix string

	mu         sync.Mutex
	client     valkey.Client // nil: not connected
	connecting bool
	until      time.Time // before which it is not asked
	closed     bool
}

// New returns limits for config. It does not connect, so that the order in which servers start does not matter.
func New(config Config) (*Limits, error) {
	url := config.URL
	if rest, ok := strings.CutPrefix(url, "valkey"); ok {
		url = "redis" + rest
	}
	option, err := valkey.ParseURL(url)
	if err != nil {
		return nil, errors.New("valkey: URL must be like redis://127.0.0.1:6379") // the cause may quote the password
	}
	option.Dialer = net.Dialer{Timeout: patience}
	option.ConnWriteTimeout = patience
	option.DisableCache = true
	option.DisableRetry = true
	option.ForceSingleClient = true
	l := &Limits{option: option, prefix: config.Prefix}
	if l.prefix == "" {
		l.prefix = "cardea"
	}
	return l, nil
}

// budget spends a part of a client's budget and returns how many seconds to wait, 0 if there was enough. The budget is
// 1 when it is full, and fills within ARGV[1] seconds; the part is 1/ARGV[2]. The clock is that of the server, so that
// it is the same for all processes.
var budget = valkey.NewLuaScript(`
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
	c, err := l.connection()
	if err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sum := sha256.Sum256([]byte(client)) // so that the server does not hold names, and keys are short
	key := l.prefix + ":limit:" + base64.RawURLEncoding.EncodeToString(sum[:16])
	text, err := budget.Exec(ctx, c, []string{key}, []string{
		strconv.FormatFloat(allowed.Per.Seconds(), 'f', -1, 64), strconv.Itoa(allowed.Requests)}).ToString()
	seconds := 0.0
	if err == nil {
		seconds, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		l.failed()
		return 0, false, fmt.Errorf("valkey: %w", err)
	}
	return time.Duration(seconds * float64(time.Second)), seconds == 0, nil
}

var (
	errAway   = errors.New("valkey: the server did not answer just now")
	errClosed = errors.New("valkey: closed")
)

// connection returns the connection to the server, or an error if there was none just now. One caller connects, and the
// others do not wait for it.
func (l *Limits) connection() (valkey.Client, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errClosed
	case l.connecting, time.Now().Before(l.until):
		return nil, errAway
	case l.client != nil:
		return l.client, nil
	}
	l.connecting = true
	l.mu.Unlock()
	c, err := valkey.NewClient(l.option)
	l.mu.Lock()
	l.connecting = false
	switch {
	case err != nil:
		l.until = time.Now().Add(retry)
		return nil, errors.New("valkey: the server cannot be reached") // the cause may quote the password
	case l.closed:
		c.Close()
		return nil, errClosed
	}
	l.client = c
	return c, nil
}

// failed has the server left alone for a while.
func (l *Limits) failed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Now().Add(retry)
}

// Close ends the connection. Spend returns errors from then on.
func (l *Limits) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed = true; l.client != nil {
		l.client.Close()
	}
}
