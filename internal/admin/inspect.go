package admin

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Inspection is the result of inspecting a token.
type Inspection struct {
	// Kind is "access_token", "refresh_token", "authorization_code", "client_secret", "registration_access_token",
	// "initial_access_token" or "unknown".
	Kind     string         `json:"kind"`
	Accepted bool           `json:"accepted"` // every check passed
	Reason   string         `json:"reason"`   // why it is not accepted; "" if it is accepted
	Header   map[string]any `json:"header,omitempty"`
	Claims   map[string]any `json:"claims,omitempty"` // as written in the token, whether verified or not
	Checks   []Check        `json:"checks"`           // in the order in which they were made
}

// Check is one condition that a token must meet.
type Check struct {
	Name   string `json:"check"`
	Result Result `json:"result"`
	Detail string `json:"detail"`
}

// Result is how a check ended.
type Result string

// The results.
const (
	Passed  Result = "ok"
	Failed  Result = "failed"
	Skipped Result = "skipped" // it could not be made
)

// say adds a check, with the detail good if ok, and bad otherwise.
func (n *Inspection) say(name string, ok bool, good, bad string) {
	if ok {
		n.Checks = append(n.Checks, Check{name, Passed, good})
	} else {
		n.Checks = append(n.Checks, Check{name, Failed, bad})
	}
}

// conclude sets Accepted and Reason according to the checks.
func (n *Inspection) conclude() {
	if c := n.Failed(); c != nil {
		n.Reason = c.Name + ": " + c.Detail
	}
	n.Accepted = n.Reason == ""
}

// Failed returns the check because of which the token is not accepted: the first that failed, or else the first that
// was skipped. It returns nil if the token is accepted.
func (n *Inspection) Failed() *Check {
	for _, r := range []Result{Failed, Skipped} {
		if i := slices.IndexFunc(n.Checks, func(c Check) bool { return c.Result == r }); i >= 0 {
			return &n.Checks[i]
		}
	}
	return nil
}

// InspectToken decodes and verifies a token and explains whether the server would accept it.
func (o *Operations) InspectToken(ctx context.Context, by Caller, token string) (*Inspection, error) {
	if err := o.permit(ctx, by, Keys, Read, "token.inspect"); err != nil {
		return nil, err
	}
	n := begin(o.Issuer, token)
	if n.Kind == "access_token" {
		if err := n.checkSignature(ctx, o.Ring, token); err != nil {
			return nil, err
		}
	}
	err := o.DB.View(ctx, func(tx *store.Tx) error {
		switch n.Kind {
		case "access_token":
			return n.checkClaims(tx, o.Directory)
		case "refresh_token":
			return n.checkRefreshToken(tx, o.Directory, o.RefreshKey, token)
		case "authorization_code":
			return n.checkCode(tx, o.Directory, token)
		}
		return nil
	})
	n.conclude()
	return n, err
}

// DecodeToken is InspectToken without a database. why is the detail of the check that was skipped for that.
func DecodeToken(issuer, token, why string) *Inspection {
	n := begin(issuer, token)
	if n.needsDatabase() {
		n.Checks = append(n.Checks, Check{"database", Skipped, why})
	}
	n.conclude()
	return n
}

// begin makes the checks that need no database.
func begin(issuer, token string) *Inspection {
	n := &Inspection{Kind: kindOf(token), Checks: []Check{}}
	switch n.Kind {
	case "unknown":
		n.say("form", false, "", "it is not a signed JWT (three base64url parts joined by dots), and it does not "+
			"begin like a token of Cardea")
	case "client_secret":
		n.say("form", false, "", "it is a client secret, which a client sends only to the token endpoint; if others "+
			"have seen it, give the client a new one")
	case "registration_access_token":
		n.say("form", false, "",
			"it is a registration access token, with which a client manages its own registration and nothing else")
	case "initial_access_token":
		n.say("form", false, "", "it is an initial access token, with which clients register and nothing else")
	case "access_token":
		n.Header, n.Claims, _ = decodeJWT(token)
		n.checkForm(issuer)
	}
	return n
}

// needsDatabase reports whether there are checks that need a database.
func (n *Inspection) needsDatabase() bool {
	return slices.Contains([]string{"access_token", "refresh_token", "authorization_code"}, n.Kind)
}

func kindOf(token string) string {
	for prefix, kind := range map[string]string{
		oauth.RefreshPrefix: "refresh_token", oauth.CodePrefix: "authorization_code",
		oauth.SecretPrefix: "client_secret", oauth.RegistrationTokenPrefix: "registration_access_token",
		oauth.InitialTokenPrefix: "initial_access_token",
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

// decodeJWT returns header and claims of a token as they are written there. It does not verify the token.
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

// claim returns a claim that is a string; "" if it is missing or not a string.
func (n *Inspection) claim(name string) string {
	text, _ := n.Claims[name].(string)
	return text
}

// checkForm checks what the token says about itself.
func (n *Inspection) checkForm(issuer string) {
	typ, _ := n.Header["typ"].(string)
	n.say("typ", typ == "at+jwt", "at+jwt, an access token (RFC 9068 section 2.1)",
		fmt.Sprintf("it is %q, not at+jwt: an ID token or another JWT is not an access token (RFC 9068 section 2.1)",
			typ))
	alg, _ := n.Header["alg"].(string)
	n.say("alg", oauth.IsSigningAlg(alg), alg,
		fmt.Sprintf("it is %q; access tokens are signed with one of %s", alg, strings.Join(oauth.SigningAlgs, ", ")))
	n.say("iss", n.claim("iss") == issuer, issuer,
		fmt.Sprintf("the token is from %q, this issuer is %s", n.claim("iss"), issuer))
}

// checkSignature finds the key and verifies the signature.
func (n *Inspection) checkSignature(ctx context.Context, ring *keys.Ring, token string) error {
	infos, err := ring.List(ctx)
	if err != nil {
		return err
	}
	kid, _ := n.Header["kid"].(string)
	i := slices.IndexFunc(infos, func(k keys.Info) bool { return k.KID == kid })
	switch {
	case i < 0:
		n.say("kid", false, "", fmt.Sprintf("no key in this database has the kid %q", kid))
		return nil
	case infos[i].State == "retired":
		n.say("kid", false, "", "its key has not been in the key set since "+Moment{infos[i].ExpiresAt}.String())
		return nil
	}
	n.say("kid", true, "a published key ("+infos[i].State+")", "")
	_, err = ring.Verify(ctx, token)
	if err != nil && !errors.Is(err, keys.ErrNotOurs) {
		return err
	}
	n.say("signature", err == nil, "made with that key",
		strings.TrimPrefix(fmt.Sprint(err), keys.ErrNotOurs.Error()+": "))
	return nil
}

// checkClaims compares the expiry with the clock, and asks the directory, as the server does, whether the token is
// accepted.
func (n *Inspection) checkClaims(tx *store.Tx, directory *client.Directory) error {
	n.checkExpiry(tx.Now())
	text, err := json.Marshal(n.Claims)
	if err != nil {
		return err // cannot happen: it was decoded from JSON
	}
	claims := new(oauth.Claims)
	if err := json.Unmarshal(text, claims); err != nil {
		n.say("claims", false, "", "they are not of the types that RFC 9068 section 2.2 says")
		return nil
	}
	if claims.ID == "" {
		n.say("jti", false, "", "it is missing")
		return nil
	}
	var parties *store.Parties
	var g *oauth.Grant
	if id := claims.GrantID(); id != "" {
		if g, parties, err = tx.GrantParties(id); errors.Is(err, store.ErrNotFound) {
			n.say("grant", false, "", "there is no grant "+id)
			return nil
		}
	} else {
		parties, err = tx.Parties(claims.ClientID, claims.Audience, "")
	}
	if err != nil {
		return err
	}
	_, err = directory.AccessToken(tx, claims)
	return n.judge(parties, g, named{client: claims.ClientID, resource: claims.Audience, jti: claims.ID}, err)
}

func (n *Inspection) checkExpiry(now time.Time) {
	number, _ := n.Claims["exp"].(json.Number)
	seconds, err := number.Int64()
	if err != nil {
		n.say("exp", false, "", "it is missing, or not a whole number of seconds")
		return
	}
	left := time.Unix(seconds, 0).Sub(now).Truncate(time.Second)
	n.say("exp", seconds > now.Unix(), "expires in "+oauth.Brief(left), "expired "+oauth.Brief(-left)+" ago")
}

// checkRefreshToken checks a refresh token and its grant.
func (n *Inspection) checkRefreshToken(tx *store.Tx, directory *client.Directory, key []byte, token string) error {
	id, generation, ok := oauth.ParseRefreshToken(token)
	n.say("form", ok, "a refresh token", "it begins like a refresh token, but was cut off or altered")
	if !ok {
		return nil
	}
	g, parties, err := tx.GrantParties(id)
	if errors.Is(err, store.ErrNotFound) {
		n.say("grant", false, "", "there is no grant "+id)
		return nil
	}
	if err != nil {
		return err
	}
	n.say("signature", oauth.IsRefreshTokenOf(key, g, generation, token), "made by this server",
		"it was altered, or was made with another master key")
	n.say("generation", generation == g.Generation, fmt.Sprintf("%d, the newest", generation),
		fmt.Sprintf("it is number %d, and the newest has been %d since %s: if it is sent again after "+
			"tokens.refresh_grace, the grant ends", generation, g.Generation, Moment{g.RotatedAt}))
	n.say("expiry", tx.Now().Before(g.ExpiresAt), "valid until "+Moment{g.ExpiresAt}.String()+" unless it is "+
		"used before", "expired at "+Moment{g.ExpiresAt}.String())
	_, err = directory.Standing(parties, client.Permission{Grant: g, GrantType: oauth.RefreshToken, Scope: g.Scope})
	return n.judge(parties, g, named{client: g.ClientID, resource: g.ResourceID}, err)
}

// checkCode checks an authorization code and its grant.
func (n *Inspection) checkCode(tx *store.Tx, directory *client.Directory, token string) error {
	code, err := tx.Code(oauth.Hash(token))
	if errors.Is(err, store.ErrNotFound) {
		n.say("code", false, "", "this server does not know it")
		return nil
	}
	if err != nil {
		return err
	}
	n.say("expiry", tx.Now().Before(code.ExpiresAt), "valid until "+Moment{code.ExpiresAt}.String(),
		"expired at "+Moment{code.ExpiresAt}.String())
	n.say("spent", code.SpentAt.IsZero(), "not redeemed yet",
		"redeemed at "+Moment{code.SpentAt}.String()+"; a code can be redeemed once")
	g, parties, err := tx.GrantParties(code.GrantID)
	if err != nil {
		return err
	}
	_, err = directory.Standing(parties,
		client.Permission{Grant: g, GrantType: oauth.AuthorizationCode, RedirectURI: code.RedirectURI, Scope: g.Scope})
	return n.judge(parties, g, named{client: g.ClientID, resource: g.ResourceID}, err)
}

// named has the names that a token uses for its client and its resource, whether these exist or not, and the jti of an
// access token.
type named struct{ client, resource, jti string }

// judge adds a check for each party of a token that exists, and one for the verdict if that is a refusal of the
// directory. It returns any other error.
func (n *Inspection) judge(parties *store.Parties, g *oauth.Grant, by named, verdict error) error {
	refusal, refused := oauth.AsRefusal(verdict)
	if verdict != nil && !refused {
		return verdict
	}
	c, r, u := parties.Client, parties.Resource, parties.User
	failed, why := "", ""
	switch { // most cases say more than the refusal does
	case !refused:
	case errors.Is(verdict, client.ErrTokenRevoked):
		failed, why = "jti", refusal.Description
	case errors.Is(verdict, client.ErrRevoked):
		failed, why = "grant", g.ID+" was revoked at "+Moment{g.RevokedAt}.String()+" ("+g.RevokedReason+")"
	case errors.Is(verdict, client.ErrNoPerson) && u == nil:
		failed, why = "user", "the account is deleted"
	case errors.Is(verdict, client.ErrNoPerson):
		failed, why = "user", u.Email+" has been disabled since "+Moment{u.DisabledAt}.String()
	case errors.Is(verdict, client.ErrNoResource):
		failed, why = "aud", fmt.Sprintf("no resource %q is registered", by.resource)
	case errors.Is(verdict, client.ErrUnbound):
		failed, why = "aud", refusal.Description
	case errors.Is(verdict, client.ErrNoScope):
		failed, why = "scope", refusal.Description
	case errors.Is(verdict, client.ErrGone) && c == nil:
		failed, why = "client", fmt.Sprintf("there is no client %q; it was deleted, or never existed", by.client)
	case errors.Is(verdict, client.ErrDisabled):
		failed, why = "client", "the client has been disabled since "+Moment{c.DisabledAt}.String()
	default:
		failed, why = "client", refusal.Description
	}
	for _, fact := range []struct {
		check string
		known bool
		what  func() string
	}{
		{"aud", r != nil, func() string { return r.Identifier + "; no other MCP server may accept it" }},
		{"client", c != nil, func() string { return c.ID + " (" + c.Name + ")" }},
		{"grant", g != nil, func() string { return g.ID + ", not revoked" }},
		{"user", u != nil, func() string { return u.Email }},
		{"jti", by.jti != "", func() string { return "not revoked" }},
	} {
		if fact.known && fact.check != failed {
			n.say(fact.check, true, fact.what(), "")
		}
	}
	if refused {
		n.say(failed, false, "", why)
	}
	return nil
}
