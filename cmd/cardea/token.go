package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

type tokenCommands struct {
	Inspect tokenInspect `cmd:"" help:"Decode, verify and explain a token: why it is or is not accepted."`
}

type tokenInspect struct {
	Token string `arg:"" optional:"" help:"The token; read from standard input if it is not given, where other users of the machine cannot see it."`
	output
}

func (c *tokenInspect) Run(ctx context.Context, sh *shell) error {
	token := c.Token
	if token == "" {
		var err error
		if token, err = sh.readLine("Token"); err != nil {
			return err
		}
	}
	token = strings.TrimSpace(token)
	if scheme, rest, found := strings.Cut(token, " "); found && strings.EqualFold(scheme, "bearer") {
		token = strings.TrimSpace(rest) // a whole Authorization header's worth
	}
	if token == "" {
		return usageError("give the token as an argument or on standard input")
	}
	found, err := inspect(ctx, sh, token)
	if err != nil {
		return err
	}
	return c.print(sh, found, found.draw)
}

// inspection is what is found out about a token.
type inspection struct {
	// Kind is "access_token", "refresh_token", "authorization_code", "client_secret",
	// "registration_access_token", "initial_access_token" or "unknown".
	Kind     string         `json:"kind"`
	Accepted bool           `json:"accepted"` // every check passed
	Reason   string         `json:"reason"`   // why it is not accepted; "" if it is
	Header   map[string]any `json:"header,omitempty"`
	Claims   map[string]any `json:"claims,omitempty"` // as they stand in the token, verified or not
	Checks   []check        `json:"checks"`           // in the order in which they are made
}

// check is one thing that must be so.
type check struct {
	Name   string `json:"check"`
	Result result `json:"result"`
	Detail string `json:"detail"`
}

// result is how a check ended.
type result string

const (
	passed  result = "ok"
	failed  result = "failed"
	skipped result = "skipped" // what it needs is not there
)

func (n *inspection) draw(t *table) {
	t.row("kind", strings.ReplaceAll(n.Kind, "_", " "))
	for _, part := range []struct {
		name   string
		values map[string]any
	}{{"header", n.Header}, {"claim", n.Claims}} {
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			t.row(part.name, name, textOf(name, part.values[name]))
		}
	}
	for _, c := range n.Checks {
		t.row(string(c.Result), c.Name, c.Detail)
	}
	if n.Accepted {
		t.row("accepted")
	} else {
		t.row("not accepted", n.Reason)
	}
}

// textOf returns a member of a token as people read it: points in time as such.
func textOf(name string, value any) string {
	switch value := value.(type) {
	case string:
		return value
	case json.Number:
		seconds, err := value.Int64()
		if err == nil && slices.Contains([]string{"exp", "iat", "nbf", "auth_time"}, name) {
			return value.String() + "  " + moment{time.Unix(seconds, 0)}.String()
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return "?" // it was JSON a moment ago
	}
	return string(text)
}

// say notes a check: good is what there is to say when it passed, bad when not.
func (n *inspection) say(name string, ok bool, good, bad string) {
	if ok {
		n.Checks = append(n.Checks, check{name, passed, good})
	} else {
		n.Checks = append(n.Checks, check{name, failed, bad})
	}
}

// conclude tells from the checks whether the token is accepted.
func (n *inspection) conclude() {
	i := slices.IndexFunc(n.Checks, func(c check) bool { return c.Result == failed })
	if i < 0 {
		i = slices.IndexFunc(n.Checks, func(c check) bool { return c.Result == skipped })
	}
	if n.Accepted = i < 0; !n.Accepted {
		n.Reason = n.Checks[i].Name + ": " + n.Checks[i].Detail
	}
}

// inspect finds out what there is to say about token, with the database's help if
// there is one.
func inspect(ctx context.Context, sh *shell, token string) (*inspection, error) {
	n := &inspection{Kind: kindOf(token), Checks: []check{}}
	switch n.Kind {
	case "unknown":
		n.say("form", false, "", "it is neither a signed JWT (three base64url parts joined by dots) nor does it begin like a token of Cardea")
	case "client_secret":
		n.say("form", false, "", "it is a client secret, which is sent to the token endpoint alone; if it was seen by others: cardea client rotate-secret")
	case "registration_access_token":
		n.say("form", false, "", "it is a registration access token, with which a client manages its own registration and nothing else")
	case "initial_access_token":
		n.say("form", false, "", "it is an initial access token, with which clients register and nothing else; cardea initial-access-token list shows them")
	default:
		if err := n.look(ctx, sh, token); err != nil {
			return nil, err
		}
	}
	n.conclude()
	return n, nil
}

func kindOf(token string) string {
	for prefix, kind := range map[string]string{
		oauth.RefreshPrefix: "refresh_token", oauth.CodePrefix: "authorization_code", oauth.SecretPrefix: "client_secret",
		oauth.RegistrationTokenPrefix: "registration_access_token", oauth.InitialTokenPrefix: "initial_access_token",
	} {
		if strings.HasPrefix(token, prefix) {
			return kind
		}
	}
	if _, _, ok := decodeJWT(token); ok {
		return "access_token"
	}
	return "unknown"
}

// decodeJWT returns header and claims of a token as they stand there. Nothing is
// proven by it.
func decodeJWT(token string) (header, claims map[string]any, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, false
	}
	for i, to := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, false
		}
		decoder := json.NewDecoder(strings.NewReader(string(text)))
		decoder.UseNumber()
		if err := decoder.Decode(to); err != nil || *to == nil {
			return nil, nil, false
		}
	}
	return header, claims, true
}

// look checks a token that could be ours.
func (n *inspection) look(ctx context.Context, sh *shell, token string) error {
	c, err := sh.load(nil)
	if err != nil {
		return err
	}
	if n.Kind == "access_token" {
		n.Header, n.Claims, _ = decodeJWT(token)
		n.checkForm(c.Issuer)
	}
	if missing := missingDatabase(c.Config); missing != "" {
		n.Checks = append(n.Checks, check{"database", skipped, "there is none at " + missing + ", so signature and grant are not checked; name it with --data-dir or --database"})
		return nil
	}
	i, err := sh.open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(n.lookInto(ctx, i, token), i.close())
}

// missingDatabase returns the SQLite file that is not there, "" if it is: looking
// at a token makes no database.
func missingDatabase(c config.Config) string {
	path, sqlite := strings.CutPrefix(c.Database, "sqlite:")
	if _, err := os.Stat(path); sqlite && errors.Is(err, fs.ErrNotExist) {
		return path
	}
	return ""
}

// lookInto checks what only the installation knows.
func (n *inspection) lookInto(ctx context.Context, i *installation, token string) error {
	master, err := masterKey(ctx, i.config, i.db)
	if err != nil {
		return err
	}
	if n.Kind == "access_token" {
		if err := n.checkSignature(ctx, keys.New(i.db, master), token); err != nil {
			return err
		}
	}
	return i.db.View(ctx, func(tx *store.Tx) error {
		switch n.Kind {
		case "refresh_token":
			return n.checkRefreshToken(tx, master.RefreshKey(), token)
		case "authorization_code":
			return n.checkCode(tx, token)
		}
		return n.checkClaims(tx)
	})
}

// claim returns a claim that is a string, "" if it is not there or no string.
func (n *inspection) claim(name string) string {
	text, _ := n.Claims[name].(string)
	return text
}

// checkForm looks at what the token says of itself.
func (n *inspection) checkForm(issuer string) {
	typ, _ := n.Header["typ"].(string)
	n.say("typ", typ == "at+jwt", "at+jwt, an access token (RFC 9068 section 2.1)",
		fmt.Sprintf("it is %q, not at+jwt: an ID token or another JWT is no access token (RFC 9068 section 2.1)", typ))
	alg, _ := n.Header["alg"].(string)
	n.say("alg", oauth.IsSigningAlg(alg), alg, fmt.Sprintf("it is %q; access tokens are signed with one of %s", alg, strings.Join(oauth.SigningAlgs, ", ")))
	n.say("iss", n.claim("iss") == issuer, issuer, fmt.Sprintf("the token is from %q, this issuer is %s", n.claim("iss"), issuer))
}

// checkSignature looks the key up and verifies the signature.
func (n *inspection) checkSignature(ctx context.Context, ring *keys.Ring, token string) error {
	infos, err := ring.List(ctx)
	if err != nil {
		return err
	}
	kid, _ := n.Header["kid"].(string)
	i := slices.IndexFunc(infos, func(k keys.Info) bool { return k.KID == kid })
	switch {
	case i < 0:
		n.say("kid", false, "", fmt.Sprintf("no key in this database has the kid %q; cardea key list shows them", kid))
		return nil
	case infos[i].State == "retired":
		n.say("kid", false, "", "its key left the key set at "+moment{infos[i].ExpiresAt}.String())
		return nil
	}
	n.say("kid", true, "a published key ("+infos[i].State+")", "")
	_, err = ring.Verify(ctx, token)
	if err != nil && !errors.Is(err, keys.ErrNotOurs) {
		return err
	}
	n.say("signature", err == nil, "made by that key", strings.TrimPrefix(fmt.Sprint(err), keys.ErrNotOurs.Error()+": "))
	return nil
}

// checkClaims compares the claims with the clock and the database.
func (n *inspection) checkClaims(tx *store.Tx) error {
	n.checkExpiry(tx.Now())
	if err := n.checkResource(tx, n.claim("aud")); err != nil {
		return err
	}
	if err := n.checkClient(tx, n.claim("client_id")); err != nil {
		return err
	}
	jti := n.claim("jti")
	if id := (&oauth.Claims{ID: jti}).GrantID(); id != "" {
		if _, err := n.checkGrant(tx, id); err != nil {
			return err
		}
	}
	live, err := tx.TokenLive("", jti)
	n.say("jti", live && jti != "", "not revoked", "the token was revoked, or has no jti")
	return err
}

func (n *inspection) checkExpiry(now time.Time) {
	number, _ := n.Claims["exp"].(json.Number)
	seconds, err := number.Int64()
	if err != nil {
		n.say("exp", false, "", "it is missing, or no whole number of seconds")
		return
	}
	left := time.Unix(seconds, 0).Sub(now).Truncate(time.Second)
	n.say("exp", seconds > now.Unix(), "expires in "+config.FormatDuration(left), "expired "+config.FormatDuration(-left)+" ago")
}

func (n *inspection) checkResource(tx *store.Tx, identifier string) error {
	r, err := tx.Resource(identifier)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	n.say("aud", err == nil && r.Identifier == identifier, identifier+"; no other MCP server may accept it",
		fmt.Sprintf("no resource %q is registered; cardea resource list shows them", identifier))
	return nil
}

func (n *inspection) checkClient(tx *store.Tx, id string) error {
	c, err := tx.Client(id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		n.say("client", false, "", fmt.Sprintf("there is no client %q; it was deleted, or never here", id))
	case err != nil:
		return err
	default:
		n.say("client", !c.Disabled(), c.ID+" ("+c.Name+")", "the client is disabled since "+moment{c.DisabledAt}.String()+"; cardea client enable lets it in again")
	}
	return nil
}

// checkGrant looks at the grant that a token hangs from, and whose it is. The
// grant is nil if there is none.
func (n *inspection) checkGrant(tx *store.Tx, id string) (*oauth.Grant, error) {
	g, err := tx.Grant(id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		n.say("grant", false, "", "there is no grant "+id)
		return nil, nil
	case err != nil:
		return nil, err
	}
	n.say("grant", g.RevokedAt.IsZero(), g.ID+", not revoked", g.ID+" was revoked at "+moment{g.RevokedAt}.String()+" ("+g.RevokedReason+")")
	u, err := tx.User(g.UserID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		n.say("user", false, "", "the account is deleted")
	case err != nil:
		return nil, err
	default:
		n.say("user", !u.Disabled(), u.Email, u.Email+" is disabled since "+moment{u.DisabledAt}.String()+"; cardea user enable opens the account again")
	}
	return g, nil
}

// checkRefreshToken follows a refresh token to its grant.
func (n *inspection) checkRefreshToken(tx *store.Tx, key []byte, token string) error {
	id, generation, ok := oauth.ParseRefreshToken(token)
	n.say("form", ok, "a refresh token", "it begins like a refresh token, but is cut or altered")
	if !ok {
		return nil
	}
	g, err := n.checkGrant(tx, id)
	if g == nil {
		return err
	}
	n.say("signature", oauth.IsRefreshTokenOf(key, g, generation, token), "made by this server", "it is altered, or was made under another master key")
	n.say("generation", generation == g.Generation, fmt.Sprintf("%d, the newest", generation),
		fmt.Sprintf("it is number %d, the newest is %d since %s: sent again after its grace it ends the grant", generation, g.Generation, moment{g.RotatedAt}))
	n.say("expiry", tx.Now().Before(g.ExpiresAt), "lives until "+moment{g.ExpiresAt}.String()+" unless it is used before", "over since "+moment{g.ExpiresAt}.String())
	return n.checkClient(tx, g.ClientID)
}

// checkCode follows an authorization code to its grant.
func (n *inspection) checkCode(tx *store.Tx, token string) error {
	code, err := tx.Code(oauth.Hash(token))
	if errors.Is(err, store.ErrNotFound) {
		n.say("code", false, "", "it is none that this server knows")
		return nil
	}
	if err != nil {
		return err
	}
	n.say("expiry", tx.Now().Before(code.ExpiresAt), "lives until "+moment{code.ExpiresAt}.String(), "expired at "+moment{code.ExpiresAt}.String())
	n.say("spent", code.SpentAt.IsZero(), "not redeemed yet", "redeemed at "+moment{code.SpentAt}.String()+"; a code is good for once")
	g, err := n.checkGrant(tx, code.GrantID)
	if g == nil {
		return err
	}
	return n.checkClient(tx, g.ClientID)
}
