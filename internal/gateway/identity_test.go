package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// The server learns from the gateway alone who calls, and can verify it.
func TestItem06Identity(t *testing.T) {
	w := start(t, strings.Replace(files, "    rules", "    identity: jwt\n    rules", 1),
		official(&mcp.StreamableHTTPOptions{Stateless: true}))
	token := w.as("ada", "/files", "files:read")
	if r := w.post("/files", token, call("1", "read_file", "{}"),
		"Cardea-Identity", "root", "Cardea_Identity", "root"); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	statements := w.server.last().header.Values("Cardea-Identity")
	if len(statements) != 1 || w.server.last().header.Get("Cardea_Identity") != "" {
		t.Fatalf("the server got %v", w.server.last().header)
	}
	var keys jose.JSONWebKeySet
	r := w.send("GET", "/.well-known/jwks", "", "")
	if err := json.Unmarshal([]byte(r.body), &keys); err != nil || strings.Contains(r.body, `"d"`) {
		t.Fatalf("keys: %s %v", r.body, err)
	}
	parsed, err := jwt.ParseSigned(statements[0], []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := parsed.Claims(keys, &claims); err != nil {
		t.Fatal(err)
	}
	want := jwt.Expected{Issuer: w.public, Subject: "ada", AnyAudience: jwt.Audience{w.public + "/files"}}
	if err := claims.ValidateWithLeeway(want, 0); err != nil ||
		claims.Expiry.Time().After(time.Now().Add(61*time.Second)) {
		t.Errorf("claims %+v: %v", claims, err)
	}
	if r := w.post("/files", statements[0], call("1", "read_file", "{}")); r.status != http.StatusUnauthorized {
		t.Errorf("as an access token: %d %s", r.status, r.body)
	}
}
