package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Front stands before every handler of the server. It gives the request an id
// and finds out where it comes from, for the log and the audit event
// (audit.RequestFrom); it logs the request when it is answered; and it outlives
// a handler's panic.
type Front struct {
	Logger         *slog.Logger   // nil: slog.Default()
	TrustedProxies []netip.Prefix // peers that may name the address they ask for; none by default
	HTTPS          bool           // the issuer's scheme: browsers are told to stay with it (RFC 6797)
	Now            func() time.Time

	untrusted, stranger sync.Once // what warn said
}

// Wrap returns next behind f.
func (f *Front) Wrap(next http.Handler) http.Handler {
	log := f.Logger
	if log == nil {
		log = slog.Default()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := f.Now()
		// A client's own X-Request-Id is not believed: it would end up in the log.
		request := audit.Request{ID: oauth.NewID(""), Address: f.address(log, r), UserAgent: r.UserAgent()}
		r = r.WithContext(context.WithValue(audit.WithRequest(r.Context(), request), loggerKey{}, log))

		h := w.Header()
		h["X-Request-Id"] = []string{request.ID}
		if f.HTTPS {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		// Where two readers may disagree on the end of a body, nothing follows it.
		if len(r.TransferEncoding) > 0 {
			h.Set("Connection", "close")
		}
		rec := &recorder{ResponseWriter: w}
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				f.rescue(rec, r, p)
			}
			f.note(log, rec, r, request, began)
			if p != nil && (p == http.ErrAbortHandler || rec.torn) {
				panic(http.ErrAbortHandler) // cuts the connection: half an answer must not look whole
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// note logs an answered request. It hands the line to the handler itself: a Logger
// would look up the caller first, which is always this function.
func (f *Front) note(log *slog.Logger, w *recorder, r *http.Request, request audit.Request, began time.Time) {
	level := slog.LevelInfo
	if w.quiet {
		level = slog.LevelDebug
	}
	if !log.Enabled(r.Context(), level) {
		return
	}
	now := f.Now()
	line := slog.NewRecord(now, level, "request", 0)
	line.AddAttrs(
		slog.String("method", cut(r.Method)),
		slog.String("path", cut(r.URL.Path)),
		slog.Int("status", w.status),
		slog.Duration("duration", now.Sub(began)),
		slog.String("request_id", request.ID),
		slog.String("address", request.Address))
	_ = log.Handler().Handle(r.Context(), line) // where would it be told?
}

// rescue answers a request whose handler panicked.
func (f *Front) rescue(w *recorder, r *http.Request, p any) {
	err := panicked(p)
	if w.status != 0 {
		w.torn = true
		_ = verdict(r, err) // for the log
		return
	}
	failJSON(w, r, err)
}

// recorder remembers how a request was answered.
type recorder struct {
	http.ResponseWriter
	status int  // 0: not yet
	torn   bool // the handler panicked in the middle of the answer
	quiet  bool // see Reply
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

type loggerKey struct{}

// logger returns the logger that Front put into ctx.
func logger(ctx context.Context) *slog.Logger {
	if log, ok := ctx.Value(loggerKey{}).(*slog.Logger); ok {
		return log
	}
	return slog.Default()
}

// cut bounds what a stranger writes into the log.
func cut(s string) string {
	const limit = 256
	if len(s) > limit {
		return s[:limit]
	}
	return s
}

// address returns the network address a request comes from: the peer's, or if
// that is a trusted proxy the one it names, "" if there is none. Of several hops
// the last that is not a trusted proxy counts, because anybody can write what stands
// before it. When Forwarded (RFC 7239) and X-Forwarded-For are both there and do
// not agree, one of them was sent by the client, and neither counts.
func (f *Front) address(log *slog.Logger, r *http.Request) string {
	peer, ok := parseAddress(r.RemoteAddr)
	if !ok {
		return ""
	}
	if !f.trusts(peer) { // what it says is not even read
		if r.Header["Forwarded"] != nil || r.Header["X-Forwarded-For"] != nil {
			f.warn(log, peer)
		}
		return peer.String()
	}
	forwarded, listed := forwardedFor(elements(r.Header["Forwarded"])), elements(r.Header["X-Forwarded-For"])
	switch {
	case len(forwarded) == 0:
		return f.origin(peer, listed).String()
	case len(listed) == 0:
		return f.origin(peer, forwarded).String()
	}
	if a, b := f.origin(peer, forwarded), f.origin(peer, listed); a == b {
		return a.String()
	}
	return peer.String()
}

// warn tells the operator, once, that a peer which is not trusted names others: most likely it is a proxy, and the
// limits take everybody behind it for one. A public address, which may be anybody's who sends such a header, is told
// apart from one of a private network, so that no stranger makes the warning about the proxy go missing.
func (f *Front) warn(log *slog.Logger, peer netip.Addr) {
	once := &f.stranger
	if peer.IsPrivate() || peer.IsLoopback() || peer.IsLinkLocalUnicast() {
		once = &f.untrusted
	}
	once.Do(func() {
		log.Warn("requests were forwarded by a peer that trusted_proxies does not name; if it is a proxy of yours, add it, "+
			"because the limits and the audit log take everybody behind it for one sender",
			"peer", peer.String(), "setting", "trusted_proxies: "+peer.String())
	})
}

// origin walks the hops back from the nearest, as long as they are trusted.
func (f *Front) origin(peer netip.Addr, hops []string) netip.Addr {
	for i := len(hops) - 1; i >= 0 && f.trusts(peer); i-- {
		hop, ok := parseAddress(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		peer = hop
	}
	return peer
}

func (f *Front) trusts(addr netip.Addr) bool {
	for _, network := range f.TrustedProxies {
		if network.Contains(addr) {
			return true
		}
	}
	return false
}

// parseAddress reads an address with or without port and brackets.
func parseAddress(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	addr, err := netip.ParseAddr(s)
	return addr.Unmap().WithZone(""), err == nil
}

// elements returns the elements of a list header (RFC 9110 §5.6.1). Commas in
// quotes split too: a client's unclosed quote must not swallow what the proxy
// added after it.
func elements(values []string) []string {
	list := strings.Join(values, ",")
	if strings.TrimSpace(list) == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// forwardedFor returns the for parameter of each element of Forwarded (RFC 7239
// §4), "" for one without.
func forwardedFor(elements []string) []string {
	var hops []string
	for _, element := range elements {
		hop := ""
		for pair := range strings.SplitSeq(element, ";") {
			if name, value, _ := strings.Cut(pair, "="); strings.EqualFold(strings.TrimSpace(name), "for") {
				hop = strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
		hops = append(hops, hop)
	}
	return hops
}
