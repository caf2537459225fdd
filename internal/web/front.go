package web

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Front wraps the handlers of the server. It gives each request an id and determines its network address, for the log
// and the audit events (audit.RequestFrom). It logs each request after the response, and recovers from panics of
// handlers.
type Front struct {
	Logger         *slog.Logger   // nil: slog.Default()
	TrustedProxies []netip.Prefix // peers whose forwarding headers are used; none by default
	HTTPS          bool           // whether the issuer has https; browsers are told to use nothing else (RFC 6797)
	Now            func() time.Time
	Dates          func() time.Time // the clock of the audit log, for the time in request ids; nil: Now

	// Observe, if it is set, is called after each response, with a request whose context is the handlers'. route is the
	// path of the route as it is declared, "" if there is none, and kind is what Kind was told.
	Observe func(r *http.Request, route, kind string, status int, duration time.Duration)

	untrusted, stranger sync.Once // the warnings that warn has logged
}

// Wrap returns a handler that calls next as described for Front.
func (f *Front) Wrap(next http.Handler) http.Handler {
	log := cmp.Or(f.Logger, slog.Default())
	dates := f.Dates
	if dates == nil {
		dates = f.Now
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := f.Now()
		// A client's X-Request-Id is not used, because it would be written to the log.
		request := audit.Request{ID: oauth.NewTimedID("", dates()), Address: f.address(log, r),
			UserAgent: r.UserAgent()}
		rec := &recorder{ResponseWriter: w, log: log}
		r = r.WithContext(context.WithValue(audit.WithRequest(r.Context(), request), recorderKey{}, rec))

		h := w.Header()
		h["X-Request-Id"] = []string{request.ID}
		if f.HTTPS {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		// A proxy and this server may disagree about the end of a chunked body, so the connection is not used again.
		if len(r.TransferEncoding) > 0 {
			h.Set("Connection", "close")
		}
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				f.rescue(rec, r, p)
			}
			f.note(log, rec, r, request, began)
			if f.Observe != nil {
				f.Observe(r, rec.route, rec.kind, rec.status, f.Now().Sub(began))
			}
			if p != nil && (p == http.ErrAbortHandler || rec.torn) {
				panic(http.ErrAbortHandler) // closes the connection, so that a partial response does not look complete
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// note logs a request after its response. It calls the slog handler directly, because a Logger would first look up the
// caller, which is always this function.
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
	_ = log.Handler().Handle(r.Context(), line) // there is no other place to report an error
}

// rescue responds to a request whose handler panicked.
func (f *Front) rescue(w *recorder, r *http.Request, p any) {
	err := panicked(p)
	if w.status != 0 {
		w.torn = true
		_ = verdict(r, err) // logs the fault
		return
	}
	failJSON(w, r, err)
}

// recorder records the status of a response.
type recorder struct {
	http.ResponseWriter
	log    *slog.Logger
	status int    // 0: not written yet
	torn   bool   // the handler panicked after it began the response
	quiet  bool   // see Reply
	route  string // the path that the route declares
	kind   string // see Kind
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

type recorderKey struct{}

// logger returns the logger of the Front that ctx comes from.
func logger(ctx context.Context) *slog.Logger {
	if rec, ok := ctx.Value(recorderKey{}).(*recorder); ok {
		return rec.log
	}
	return slog.Default()
}

// Kind tells Front.Observe the kind of the request of ctx, for a route with several kinds. A kind is one of a few names
// that no sender chooses.
func Kind(ctx context.Context, kind string) {
	if rec, ok := ctx.Value(recorderKey{}).(*recorder); ok {
		rec.kind = kind
	}
}

// cut bounds the length of text from a request in the log.
func cut(s string) string { return s[:min(len(s), 256)] }

// address returns the network address of the sender of r: the peer's or, if that is a trusted proxy, the one in its
// forwarding header; "" if the peer has none. Of several hops it returns the last one that is not a trusted proxy,
// because the sender can invent the ones before. If Forwarded (RFC 7239) and X-Forwarded-For are both present and
// differ, the client sent one of them, so address ignores both.
func (f *Front) address(log *slog.Logger, r *http.Request) string {
	peer, ok := parseAddress(r.RemoteAddr)
	if !ok {
		return ""
	}
	if !f.Trusts(peer) { // its headers are ignored
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

// warn logs, once, that a peer that is not trusted sent a forwarding header. The peer is probably a proxy, and then the
// limits count everybody behind it as one sender. There is a separate warning for public addresses, because any
// stranger can send such a header and must not use up the warning about the proxy.
func (f *Front) warn(log *slog.Logger, peer netip.Addr) {
	once := &f.stranger
	if peer.IsPrivate() || peer.IsLoopback() || peer.IsLinkLocalUnicast() {
		once = &f.untrusted
	}
	once.Do(func() {
		log.Warn("requests were forwarded by a peer that is not in trusted_proxies; if it is your proxy, add it, "+
			"because the limits and the audit log treat everybody behind it as one sender",
			"peer", peer.String(), "setting", "trusted_proxies: "+peer.String())
	})
}

// origin returns the nearest hop that is not trusted, starting with peer.
func (f *Front) origin(peer netip.Addr, hops []string) netip.Addr {
	for i := len(hops) - 1; i >= 0 && f.Trusts(peer); i-- {
		hop, ok := parseAddress(strings.TrimSpace(hops[i]))
		if !ok {
			break
		}
		peer = hop
	}
	return peer
}

// Trusts reports whether addr is one of the trusted proxies.
func (f *Front) Trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(f.TrustedProxies, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// parseAddress parses an address with or without a port and brackets.
func parseAddress(s string) (netip.Addr, bool) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	addr, err := netip.ParseAddr(s)
	return addr.Unmap().WithZone(""), err == nil
}

// elements returns the elements of a list header (RFC 9110 §5.6.1). It also splits at commas in quotes, because a quote
// that a client left open must not hide what the proxy added after it.
func elements(values []string) []string {
	list := strings.Join(values, ",")
	if strings.TrimSpace(list) == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// forwardedFor returns the for parameter of each element of Forwarded (RFC 7239 §4), or "" for an element without one.
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
