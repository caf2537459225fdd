package gateway

import (
	"net/http"
	"net/url"
)

// A server of MCP 2024-11-05 (HTTP with SSE) says in the first event of its stream where messages go. Clients get a URL
// of the gateway instead, with the server's sealed for the one who opened the stream.

// endpoint returns the first event of a stream as the client may see it. An endpoint elsewhere is not one of the
// server.
func (rt *route) endpoint(c *call, e event, data string) (event, bool) {
	u, err := rt.Upstream.Parse(data)
	if err != nil || u.Scheme != rt.Upstream.Scheme || u.Host != rt.Upstream.Host {
		rt.gateway.log.ErrorContext(c.Context(), "gateway: the server names an endpoint elsewhere; it was dropped",
			"server", rt.Name)
		return e, false
	}
	sealed := rt.table.seal.seal(u.RequestURI(), rt.owner("endpoint", c.token))
	e.set("data", []byte(rt.path()+"?"+url.Values{"session": {sealed}}.Encode()))
	return e, true
}

// toEndpoint sends a message to where the client's stream says. The error says that it is not the client's stream.
func (rt *route) toEndpoint(out *http.Request, c *call) error {
	switch c.Method {
	case http.MethodGet:
		return nil
	case http.MethodPost:
	default:
		return &refusal{http.StatusMethodNotAllowed, nil, http.StatusMethodNotAllowed,
			"This transport has GET and POST requests only."}
	}
	query := c.URL.Query()
	target, ok := rt.table.seal.open(query.Get("session"), rt.owner("endpoint", c.token))
	u, err := rt.Upstream.Parse(target)
	if !ok || err != nil || len(query["session"]) != 1 {
		// A client of a later revision that tries POST first goes on with GET after 405 (MCP, "Backwards
		// Compatibility").
		if !query.Has("session") {
			return &refusal{http.StatusMethodNotAllowed, nil, http.StatusMethodNotAllowed,
				"This server has the transport of MCP 2024-11-05; open its stream with GET."}
		}
		return noSession(c)
	}
	out.URL = u
	return nil
}
