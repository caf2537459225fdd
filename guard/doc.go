// Package guard protects an MCP server: it lets in who has a valid access token of the server's issuer and tells
// everybody else how to get one (OAuth 2.1, RFC 6750, RFC 9068, RFC 9728, MCP authorization).
//
//	g, err := guard.New(guard.Config{
//		Issuer:   "https://id.example.com",
//		Resource: "https://mcp.example.com/mcp",
//		Scopes:   scope.Of("mcp:tools:weather", "mcp:tools:email:send"),
//	})
//	…
//	mux.Handle("/mcp", g.Protect(server))
//	mux.Handle("/.well-known/", guard.WellKnown(g))
//
// Package gosdk beneath it plugs a guard into the official Go SDK, package guardtest is an issuer for tests.
package guard
