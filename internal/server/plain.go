package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// listenPlain listens for HTTP beside HTTPS; it returns nil if c wants none. If the address is not in the configuration
// and cannot be used, it only warns, because certificates come without it too.
func listenPlain(ctx context.Context, c config.Config, log *slog.Logger) (net.Listener, error) {
	address := c.HTTPAddress()
	if address == "" {
		return nil, nil
	}
	listener, err := Listen(ctx, "tls.http_listen", "CARDEA_TLS_HTTP_LISTEN", address)
	if err != nil && c.TLS.HTTPListen == "" {
		log.WarnContext(ctx, "http is not answered, and nobody is sent from http to https; mend this, or set "+
			"tls.http_listen to off", "error", err)
		return nil, nil
	}
	return listener, err
}

// plain answers HTTP: it sends browsers to HTTPS, and answers the challenges of the certificate authority.
func (s *Server) plain() http.Handler {
	issuer, err := url.Parse(s.config.Issuer)
	if err != nil {
		panic(err) // config checks it
	}
	refuse := web.JSON(func(*http.Request) (health, error) {
		// Whatever secret was in the request has been seen by others, and would be sent again.
		return health{}, oauth.Refuse(oauth.InvalidRequest, "use https: %s", s.config.Issuer)
	})
	front := &web.Front{Logger: s.log, TrustedProxies: s.config.TrustedProxies, Now: time.Now, Dates: s.db.Now}
	return front.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.authority != nil && s.authority.answers(w, r):
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			refuse.ServeHTTP(w, r)
		default:
			// Never the host of the request, because a stranger chooses it.
			to := url.URL{Scheme: "https", Host: issuer.Host, Path: r.URL.Path, RawPath: r.URL.RawPath,
				RawQuery: r.URL.RawQuery}
			if !strings.HasPrefix(to.Path, "/") {
				to.Path, to.RawPath = "/", ""
			}
			w.Header().Set("Location", to.String())
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusMovedPermanently)
		}
	}))
}
