package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// The verbs of scripts that operate the binary. $ESC is what terminals obey, $port is free when a script
// begins, and $issuer is http://localhost:$port.
//
//	[!] json FILE PATH [REGEXP]   the member at PATH, such as 0.scopes.1.name, is there and matches as a whole;
//	                              FILE may be stdout; a PATH of . is the document
//	keep NAME FILE PATH           the member becomes $NAME
//	exit-code N PROGRAM …         runs a program that ends with that code
//	postgres                      $CARDEA_DATABASE is an empty PostgreSQL database of the script's own
//	empty-postgres                the same, without the schema
//	mode PERMISSION FILE …        such as 0600
//	proved FILE KEY               the proof in FILE holds, as a program finds that has nothing of Cardea
//	post URL NAME=VALUE …         sends a form, waits for a server to be there, and puts the status line and the
//	                              body into the files status and answer
//	until STATUS URL NAME=VALUE … the same, again and again until the answer has that status
//	sign NAME CLAIM=VALUE …       $NAME is an access token with the claims of a good one, but for those given
//	                              (exp=-5m is five minutes ago), signed by the key of ./cardea-data
//	consented NAME CLIENT EMAIL IDENTIFIER
//	                              $NAME is a grant of mcp:tools:weather as consent leaves it in ./cardea-data,
//	                              redeemed
//	passkey NAME EMAIL LABEL      $NAME is a passkey of the person in ./cardea-data, which nobody can use
//	registered NAME               $NAME is a client that registered itself in ./cardea-data, and may manage its
//	                              registration
//	documented NAME               $NAME is a client in ./cardea-data that has a metadata document, and signs
var operating = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exit-code": exitCodeVerb,
	"json":      jsonVerb,
	"keep":      keepVerb,
	"mode":      modeVerb,
	"proved":    provedVerb,
	"post":      postVerb,
	"postgres":  postgresVerb,

	"empty-postgres": emptyPostgresVerb,

	"until":      untilVerb,
	"sign":       signVerb,
	"consented":  consentedVerb,
	"passkey":    passkeyVerb,
	"registered": registeredVerb,
	"documented": documentedVerb,
}

type testKey struct{}

// setMachine prepares a script for the verbs that operate.
func setMachine(env *testscript.Env) error {
	t, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("scripts run under go test")
	}
	env.Values[testKey{}] = t
	port := strconv.Itoa(porttest.Port(t))
	env.Setenv("ESC", "\x1b")
	env.Setenv("port", port)
	env.Setenv("issuer", "http://localhost:"+port)
	return nil
}

// member returns what stands at path in a JSON file.
func member(ts *testscript.TestScript, file, path string) (any, bool) {
	var value any
	if err := json.Unmarshal([]byte(ts.ReadFile(file)), &value); err != nil {
		ts.Fatalf("%s is no JSON: %v", file, err)
	}
	for name := range strings.SplitSeq(strings.Trim(path, "."), ".") {
		switch at := value.(type) {
		case map[string]any:
			found := false
			if value, found = at[name]; !found {
				return nil, false
			}
		case []any:
			if name == "" {
				return value, true
			}
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(at) {
				return nil, false
			}
			value = at[i]
		default:
			return nil, false
		}
	}
	return value, true
}

// plainText returns a string as it is, and any other value as JSON.
func plainText(value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func jsonVerb(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] json FILE PATH [REGEXP]")
	}
	value, found := member(ts, args[0], args[1])
	matches := found
	if found && len(args) == 3 {
		pattern, err := regexp.Compile("^(?:" + args[2] + ")$")
		ts.Check(err)
		matches = pattern.MatchString(plainText(value))
	}
	if matches == neg {
		ts.Fatalf("%s is %s", args[1], plainText(value))
	}
}

func keepVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: keep NAME FILE PATH")
	}
	value, found := member(ts, args[1], args[2])
	if !found {
		ts.Fatalf("there is no %s", args[2])
	}
	ts.Setenv(args[0], plainText(value))
}

func exitCodeVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit-code N PROGRAM …")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("the exit code is %d, want %s", code, args[0])
	}
}

func modeVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode PERMISSION FILE …")
	}
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has the mode %s, want %s", name, got, args[0])
		}
	}
}

func postgresVerb(ts *testscript.TestScript, neg bool, args []string) {
	t, ok := ts.Value(testKey{}).(testing.TB)
	if neg || len(args) > 0 || !ok {
		ts.Fatalf("usage: postgres, under go test")
	}
	ts.Setenv("CARDEA_DATABASE", storetest.New(t, storetest.Postgres))
}

func emptyPostgresVerb(ts *testscript.TestScript, neg bool, args []string) {
	t, ok := ts.Value(testKey{}).(testing.TB)
	if neg || len(args) > 0 || !ok {
		ts.Fatalf("usage: empty-postgres, under go test")
	}
	ts.Setenv("CARDEA_DATABASE", storetest.Bare(t, storetest.Postgres))
}

// patience bounds how long a script waits for a server.
const patience = time.Minute

func postVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: post URL NAME=VALUE …")
	}
	post(ts, args, func(*http.Response) bool { return true })
}

func untilVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until STATUS URL NAME=VALUE …")
	}
	post(ts, args[1:], func(resp *http.Response) bool { return strconv.Itoa(resp.StatusCode) == args[0] })
}

// post sends a form until there is an answer that will do.
func post(ts *testscript.TestScript, args []string, enough func(*http.Response) bool) {
	form := url.Values{}
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		form.Add(name, value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, args[0], strings.NewReader(form.Encode()))
		ts.Check(err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			var body bytes.Buffer
			_, err = body.ReadFrom(resp.Body)
			resp.Body.Close()
			ts.Check(err)
			if enough(resp) {
				ts.Logf("%s\n%s", resp.Status, &body)
				ts.Check(os.WriteFile(ts.MkAbs("status"), []byte(resp.Status+"\n"), 0o600))
				ts.Check(os.WriteFile(ts.MkAbs("answer"), body.Bytes(), 0o600))
				return
			}
			err = fmt.Errorf("the answer is %s %s", resp.Status, &body)
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%s: %v", args[0], err)
		case <-ticker.C:
		}
	}
}

// onData runs fn on the database and the keys in ./cardea-data.
func onData(ts *testscript.TestScript, fn func(context.Context, config.Config, *store.DB, *keys.Ring) error) {
	ctx := context.Background()
	sh := &shell{settings: &settings{}, errs: ts.Stderr(), environ: []string{
		"CARDEA_ISSUER=" + ts.Getenv("CARDEA_ISSUER"),
		"CARDEA_DATA_DIR=" + ts.MkAbs("cardea-data"),
		"CARDEA_DATABASE=" + ts.Getenv("CARDEA_DATABASE"),
		"CARDEA_MASTER_KEY=" + ts.Getenv("CARDEA_MASTER_KEY"),
	}}
	i, err := sh.open(ctx)
	ts.Check(err)
	ring, _, err := i.ring(ctx, sh)
	ts.Check(err)
	ts.Check(fn(ctx, i.config, i.db, ring))
	ts.Check(i.close())
}

func signVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: sign NAME CLAIM=VALUE …")
	}
	onData(ts, func(ctx context.Context, c config.Config, db *store.DB, ring *keys.Ring) error {
		now := db.Now()
		typ, lives := "at+jwt", 10*time.Minute
		claims := oauth.Claims{Issuer: c.Issuer, Audience: "https://mcp.example.com/mcp", IssuedAt: now.Unix(),
			Scope: "mcp:tools:weather"}
		for _, arg := range args[1:] {
			var err error
			switch name, value, _ := strings.Cut(arg, "="); name {
			case "typ":
				typ = value
			case "iss":
				claims.Issuer = value
			case "aud":
				claims.Audience = value
			case "client_id":
				claims.ClientID, claims.Subject = value, value
			case "grant":
				claims.ID = oauth.NewID(value + ".")
			case "exp":
				lives, err = time.ParseDuration(value)
			default:
				ts.Fatalf("sign knows no claim %s", name)
			}
			ts.Check(err)
		}
		if claims.ID == "" { // a client's own
			err := db.View(ctx, func(tx *store.Tx) error {
				parties, err := tx.Parties(claims.ClientID, claims.Audience, "")
				if err != nil || parties.Client == nil || parties.Resource == nil {
					claims.ID = oauth.NewID("tok_")
					return err
				}
				claims.ID = oauth.NewID(oauth.OwnTokenPrefix(parties.Client, parties.Resource))
				return nil
			})
			ts.Check(err)
		}
		claims.Expiry = now.Add(lives).Unix()
		token, err := ring.Sign(ctx, c.Tokens.SigningAlg, typ, claims)
		ts.Setenv(args[0], token)
		return err
	})
}

func consentedVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: consented NAME CLIENT EMAIL IDENTIFIER")
	}
	onData(ts, func(ctx context.Context, _ config.Config, db *store.DB, _ *keys.Ring) error {
		return db.Update(ctx, func(tx *store.Tx) error {
			u, err := tx.UserByEmail(args[2])
			if err != nil {
				return err
			}
			r, err := tx.Resource(args[3])
			if err != nil {
				return err
			}
			g := &oauth.Grant{
				ID: oauth.NewID("grt_"), ClientID: args[1], UserID: u.ID, ResourceID: r.ID,
				RedirectURI: "http://127.0.0.1/callback", Scope: []string{"mcp:tools:weather"}, Refreshable: true,
				Secret: oauth.NewSecret(""), SignedInAt: tx.Now(), AMR: []string{"pwd"}, CreatedAt: tx.Now(),
				ExpiresAt: tx.Now().Add(time.Hour), EndsAt: tx.Now().Add(24 * time.Hour),
			}
			ts.Setenv(args[0], g.ID)
			if err := tx.CreateGrant(g); err != nil {
				return err
			}
			return tx.RedeemGrant(g.ID, 1, g.ExpiresAt, oauth.MethodNone)
		})
	})
}

func passkeyVerb(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: passkey VAR EMAIL NAME")
	}
	onData(ts, func(ctx context.Context, _ config.Config, db *store.DB, _ *keys.Ring) error {
		return db.Update(ctx, func(tx *store.Tx) error {
			u, err := tx.UserByEmail(args[1])
			if err != nil {
				return err
			}
			id := oauth.NewID("psk_")
			ts.Setenv(args[0], id)
			return tx.CreatePasskey(&identity.Passkey{ID: id, UserID: u.ID, CredentialID: []byte(id),
				PublicKey: []byte(id), Name: args[2], CreatedAt: tx.Now()})
		})
	})
}

func registeredVerb(ts *testscript.TestScript, neg bool, args []string) {
	newClient(ts, neg, args, "registered", func(c *oauth.Client) {
		c.ID, c.Origin, c.Method = oauth.NewID("mcp_"), oauth.ByRegistration, oauth.MethodBasic
		c.RegistrationToken = oauth.Hash(oauth.NewSecret(oauth.RegistrationTokenPrefix))
		c.Secrets = []oauth.Secret{{Hash: oauth.Hash(oauth.NewSecret(oauth.SecretPrefix)), CreatedAt: c.CreatedAt}}
	})
}

func documentedVerb(ts *testscript.TestScript, neg bool, args []string) {
	newClient(ts, neg, args, "documented", func(c *oauth.Client) {
		c.ID, c.Origin, c.FetchedAt = "https://agent.example.com/client.json", oauth.ByDocument, c.CreatedAt
		c.Method, c.JWKSURI = oauth.MethodPrivateKeyJWT, "https://agent.example.com/jwks.json"
	})
}

// newClient stores a client that edit completes; its id becomes the variable that
// args name.
func newClient(ts *testscript.TestScript, neg bool, args []string, verb string, edit func(*oauth.Client)) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: %s NAME", verb)
	}
	onData(ts, func(ctx context.Context, _ config.Config, db *store.DB, _ *keys.Ring) error {
		return db.Update(ctx, func(tx *store.Tx) error {
			c := &oauth.Client{CreatedAt: tx.Now(), Metadata: oauth.Metadata{
				Name: "Agent", GrantTypes: []oauth.GrantType{oauth.AuthorizationCode}, ResponseTypes: []string{"code"},
				RedirectURIs: []string{"https://agent.example.com/callback"},
			}}
			edit(c)
			ts.Setenv(args[0], c.ID)
			return tx.CreateClient(c, "")
		})
	})
}
