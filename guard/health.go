package guard

import (
	"net/http"
	"time"
)

// Health returns a handler that reports the health of the server and its issuer:
//
//	{"status":"healthy","timestamp":"…","services":{"mcp_server":"healthy","oauth_server":"healthy"}}
//
// It asks the issuer, but at most every five seconds. While the issuer cannot be reached, oauth_server is "unhealthy"
// and status is "degraded"; the answer is still 200 as long as tokens can be verified with the keys in memory, because
// a restart would not help. When they cannot, status is "unhealthy" and the answer 503.
func (g *Guard) Health() http.Handler {
	type services struct {
		Server string `json:"mcp_server"`
		Issuer string `json:"oauth_server"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := struct {
			Status    string   `json:"status"`
			Timestamp string   `json:"timestamp"`
			Services  services `json:"services"`
		}{"healthy", g.now().UTC().Format(time.RFC3339), services{"healthy", "healthy"}}
		status := http.StatusOK
		if _, err := g.issuer.metadata.again(r.Context()); err != nil {
			report.Status, report.Services.Issuer = "degraded", "unhealthy"
			if _, err := g.issuer.keys.current(r.Context()); err != nil || g.credentials != nil {
				report.Status, status = "unhealthy", http.StatusServiceUnavailable
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, status, report)
	})
}
