// Package guard protects an MCP server: it lets in who has a valid access token of the server's issuer, and tells
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
// What an MCP server needs, and the example that shows it:
//
//	validate tokens                        Guard.Protect
//	scopes for a path, for a tool          Guard.RequireScope, Guard.RequireToolScopes
//	scopes found out while handling        Guard.CheckScope
//	hierarchical scopes                    Guard.RequireScope (Wildcards), package scope
//	protected resource metadata            WellKnown
//	authorization server metadata proxy    WellKnown (LegacyClients)
//	endpoints for MCP 2025-03-26           Guard.OlderClients
//	strict validation by introspection     Config (Introspection)
//	rate limits by client and scope        Guard.LimitRate
//	audit log of tool calls                Guard.LogToolCall
//	health                                 Guard.Health
//	error responses                        Guard.WriteError
//	CORS                                   CORS
//	scopes mapped to permissions           Permissions
//	why a token is refused                 Guard.Explain
//	why a scope is missing                 ExplainScopes
//
// And what an agent does, with net/http alone: test of an integration (IntegrationTest), machine token
// (ClientCredentials), authorization code with PKCE (AuthorizationCode), DynamicClientRegistration, Introspection, and
// refresh token management (Refresh) are examples of the package.
//
// # Who is calling
//
// A handler finds the verified [Token] with [FromContext]. A subject means nothing without its issuer: keep a person's
// data under [Token.Principal].
//
// # The issuer
//
// A guard fetches the issuer's metadata (RFC 8414) and keys when the first token comes, and never follows them to another
// issuer or off https. They stay fresh as long as Cache-Control says, between a minute and an hour; then they are fetched
// again in the background. A token signed with a key not seen yet makes the guard look at once, but only every five
// seconds, so that made-up keys cost little. A key that the issuer withdraws takes its tokens with it at the next fetch.
// While the issuer cannot be reached the keys in memory serve for a day; with strict validation nobody gets in meanwhile,
// and clients are told to try again (503), not to sign in anew.
//
// Package gosdk beneath this one plugs a guard into the official Go SDK; package guardtest is an issuer for tests.
package guard
