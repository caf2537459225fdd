package doctor

import "slices"

// A trait is a way in which clients differ and that decides whether a fault keeps them out.
type trait int

// The traits, as the clients' sources, documentation and reports show them.
const (
	everybody      trait = iota
	hosted               // connects from the network of its vendor, not from the person's computer
	inBrowser            // a web page, which needs CORS
	byChallenge          // begins to sign in only at a 401 with a challenge
	exactURL             // the resource must be the URL that the person typed, byte for byte
	samePage             // the resource must be that URL, after normalisation
	exactIssuer          // the issuer must be what the MCP server names, byte for byte
	checksIssuer         // the same, but for a slash at the end
	strictPKCE           // refuses a server that does not advertise S256
	strictIss            // refuses a response whose iss is not as advertised
	usesDCR              // registers itself and cannot do otherwise (Client ID Metadata Documents come later)
	usesCIMD             // has a Client ID Metadata Document
	randomPort           // listens on another port each time
	challengeScope       // asks only for the scopes of the challenge
	serverScopes         // asks for all scopes of the authorization server if the MCP server names none
	offline              // asks for offline_access or openid too
	stepsUp              // asks for more scopes at a 403 that names them
	strictTokens         // refuses a token response with members of the wrong type
	rootMetadata         // looks for metadata at the root of the host
	olderDiscovery       // older versions read the authorization server's metadata in one form alone
	onlyOpenID           // looks at openid-configuration first
	sendsResource        // sends resource when it refreshes
	stopsAtErrors        // stops looking for metadata at an error that is not 404
	ownServer            // older versions ask the MCP server's host for tokens
	opensStream          // opens a stream with GET, and takes 404 for the end
	deadRefresh          // gives up a refresh token only at invalid_grant
	jsonOnly             // takes metadata only as application/json
	strictMembers        // refuses metadata with null or empty members
)

// clients is the table of clients: what each needs. A fault names the clients that have the trait which it hurts.
var clients = []struct {
	name   string
	agent  string // its User-Agent, if that differs from that of its SDK
	traits []trait
}{
	{"Claude", "Claude-User", []trait{hosted, byChallenge, exactURL, usesCIMD, serverScopes, stepsUp, ownServer,
		deadRefresh}},
	{"Claude Code", "claude-code/2.1",
		[]trait{byChallenge, exactURL, exactIssuer, usesCIMD, randomPort, offline, stepsUp, rootMetadata}},
	{"ChatGPT", "openai-mcp/1.0.0",
		[]trait{hosted, byChallenge, exactIssuer, strictPKCE, usesCIMD, stepsUp, onlyOpenID}},
	{"VS Code", "", []trait{byChallenge, samePage, usesCIMD, randomPort, stepsUp, rootMetadata, olderDiscovery}},
	{"Cursor", "", []trait{byChallenge, usesDCR, strictPKCE, serverScopes}},
	{"Codex", "", []trait{checksIssuer, usesCIMD, randomPort, offline, sendsResource, deadRefresh}},
	{"Gemini CLI", "", []trait{samePage, usesDCR, randomPort, serverScopes, sendsResource}},
	{"Copilot CLI", "", []trait{exactIssuer, usesCIMD, randomPort, challengeScope}},
	{"opencode", "", []trait{exactIssuer, usesCIMD, stepsUp, sendsResource, opensStream}},
	{"MCP Inspector", "", []trait{inBrowser, usesDCR, stepsUp, opensStream}},
	{"mcp-remote", "", []trait{usesDCR, serverScopes, offline, ownServer, rootMetadata,
		opensStream, olderDiscovery}},
	{"TypeScript SDK", "node", []trait{exactIssuer, strictIss, offline, stepsUp, sendsResource, stopsAtErrors,
		strictTokens, strictMembers, opensStream, deadRefresh}},
	{"Python SDK", "python-httpx/0.28.1", []trait{exactIssuer, serverScopes, offline, stopsAtErrors, strictTokens}},
	{"Go SDK", "Go-http-client/2.0", []trait{exactURL, checksIssuer, strictPKCE, strictIss, stepsUp, jsonOnly}},
	{"Rust SDK", "", []trait{checksIssuer, offline, sendsResource, strictTokens, deadRefresh}},
	{"C# SDK", "", []trait{exactIssuer, strictPKCE, strictTokens}},
}

// with returns the clients that have one of the traits.
func with(traits ...trait) []string {
	names := []string{}
	for _, c := range clients {
		for _, t := range traits {
			if t == everybody || slices.Contains(c.traits, t) {
				names = append(names, c.name)
				break
			}
		}
	}
	return names
}
