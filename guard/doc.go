// Package guard protects an MCP server: it lets requests through that have a valid access token of the server's issuer,
// and tells all other clients how to get one (OAuth 2.1, RFC 6750, RFC 9068, RFC 9728, MCP authorization).
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
//	a server in another language           Guard.RequireToolScopes (Proxy)
//	scopes found out while handling        Guard.CheckScope
//	hierarchical scopes                    Guard.RequireScope (Wildcards), package scope
//	protected resource metadata            WellKnown
//	authorization server metadata proxy    WellKnown (LegacyClients)
//	endpoints for MCP 2025-03-26           Guard.OlderClients
//	strict validation by introspection     Config (Introspection)
//	revocation by status list              Config (Status), Guard.StatusAge
//	audit log of the issuer                Config (Events), Guard.RecordToolCall
//	rate limits by client and scope        Guard.LimitRate
//	audit log of tool calls                Guard.LogToolCall
//	health                                 Guard.Health
//	error responses                        Guard.WriteError
//	CORS                                   CORS
//	scopes mapped to permissions           Permissions
//	why a token is refused                 Guard.Explain
//	why a scope is missing                 ExplainScopes
//
// The package also has examples of what an agent does, with net/http alone: IntegrationTest, ClientCredentials,
// AuthorizationCode (with PKCE), DynamicClientRegistration, Introspection and Refresh.
//
// # Who is calling
//
// A handler finds the verified [Token] with [FromContext]. A subject means nothing without its issuer, so keep a
// person's data under [Token.Principal].
//
// # Which message is judged
//
// [Guard.RequireToolScopes] reads a message before the server does, so both must read it alike. It refuses what two
// programs could read differently, and hands on exactly the bytes that it judged.
//
// # The issuer
//
// A guard fetches the issuer's metadata (RFC 8414) and keys when the first token comes, and never follows them to
// another issuer or away from https. They stay fresh for as long as Cache-Control says, between a minute and an hour;
// then they are fetched again in the background. A token signed with an unknown key makes the guard fetch the keys at
// once, but at most every five seconds, so that invented keys cost little. A key that the issuer withdraws ends the
// tokens that it signed at the next fetch. While the issuer cannot be reached, the keys in memory serve for a day, and
// the status lists for a minute ([Status]). With strict validation no request gets through meanwhile, and clients are
// told to try again (503), not to sign in again.
//
// Package gosdk, below this one, plugs a guard into the official Go SDK; package guardtest is an issuer for tests.
package guard
