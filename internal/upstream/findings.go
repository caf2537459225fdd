package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"github.com/cardea-auth/cardea/internal/audit"
)

// A Finding is what Provider.Test found out about one thing that a sign-in needs.
type Finding struct {
	Check  string `json:"check"` // one of Checked
	Status Status `json:"status"`
	Found  string `json:"found"`
	Fix    string `json:"fix"` // what to do; "": nothing
}

// Status says how a check ended.
type Status string

// The statuses.
const (
	OK      Status = "ok"
	Warn    Status = "warn" // people can sign in, but not everything that is configured works
	Fail    Status = "fail" // nobody can sign in
	Skipped Status = "skip" // it cannot be found out, or not before another check passes
)

// The checks, in their order.
const (
	checkReachable = "reachable"     // the provider answers at its issuer
	checkIssuer    = "issuer"        // its metadata is of the issuer that is configured
	checkEndpoints = "endpoints"     // and has what a sign-in uses
	checkKeys      = "keys"          // the keys of its ID tokens can be read
	checkClock     = "clock"         // its clock and that of this computer agree
	checkClient    = "client"        // it accepts client_id and client_secret
	checkRedirect  = "redirect_uri"  // it sends people back to here
	checkConfig    = "configuration" // what is configured beyond that can work
)

// Checked are the names of the checks, in the order in which Test returns them.
var Checked = []string{checkReachable, checkIssuer, checkEndpoints, checkKeys, checkClock, checkClient, checkRedirect,
	checkConfig}

// Bounds on the difference between two clocks: ID tokens are refused from tooLate on.
const (
	lateness = time.Minute
	tooLate  = 5 * time.Minute
)

// tests bounds how many tests run at once, because each of them may wait for a provider that does not answer.
var tests = make(chan struct{}, 4)

// trial is a test that runs.
type trial struct {
	*Provider
	found map[string]Finding
}

// Test tries what a sign-in with the provider needs, as far as it can be tried without a person. It returns a finding
// for each of Checked, reads the metadata again, and changes nothing here. It takes less than a minute.
func (p *Provider) Test(ctx context.Context) []Finding {
	t := trial{p, map[string]Finding{}}
	select {
	case tests <- struct{}{}:
		defer func() { <-tests }()
		ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), 3*patience)
		defer cancel()
		if p.Preset == "github" {
			t.tryGitHub(ctx)
		} else {
			t.tryOIDC(ctx)
		}
	case <-time.After(patience):
		t.note(checkReachable, Skipped, "too many tests run at this moment", "try again in a minute")
	case <-ctx.Done():
	}
	t.note(checkRedirect, Skipped, "whether people come back can only be seen by signing in: the provider must know "+
		"exactly the redirect URI "+p.RedirectURI, "register it there if a sign-in ends on a page of the provider")
	findings := make([]Finding, len(Checked))
	for i, check := range Checked {
		t.note(check, Skipped, "not tried, because something before it failed", "")
		findings[i] = t.found[check]
	}
	return findings
}

// note keeps a finding, unless there is one about the same check.
func (t trial) note(check string, status Status, found, fix string) {
	if _, known := t.found[check]; !known {
		t.found[check] = Finding{check, status, t.plain(found), t.plain(fix)}
	}
}

// plain returns text as one line of at most 500 characters, without the secret, which a provider might repeat.
func (t trial) plain(text string) string {
	if t.ClientSecret != "" {
		text = strings.ReplaceAll(text, t.ClientSecret, "[client_secret]")
	}
	line := []rune(audit.Plain(text))
	return string(line[:min(len(line), 500)])
}

// tryOIDC tests an OpenID provider.
func (t trial) tryOIDC(ctx context.Context) {
	address := strings.TrimSuffix(t.Issuer, "/") + "/.well-known/openid-configuration"
	text, ok := t.fetch(ctx, checkReachable, address)
	if !ok {
		return
	}
	var said struct {
		Issuer   string   `json:"issuer"`
		Pkce     []string `json:"code_challenge_methods_supported"`
		Scopes   []string `json:"scopes_supported"`
		Claims   []string `json:"claims_supported"`
		AuthWith []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.note(checkReachable, Fail, address+" is not the metadata of an OpenID provider", t.howIssuer())
		return
	}
	t.note(checkReachable, OK, "the provider answers at "+address, "")
	if said.Issuer != t.tokenIssuer() {
		t.note(checkIssuer, Fail,
			fmt.Sprintf("the provider says that its issuer is %q, and %q is configured", said.Issuer, t.Issuer),
			"set issuer to the exact text that the provider says, if that is the provider you mean")
		return
	}
	t.note(checkIssuer, OK, "it is the issuer that the provider says", "")
	m, err := t.read(ctx)
	if err != nil {
		t.note(checkEndpoints, Fail, cause(err), "ask the administrator of the provider")
		return
	}
	switch {
	case len(said.Pkce) > 0 && !slices.Contains(said.Pkce, "S256"):
		t.note(checkEndpoints, Warn, "the provider does not support PKCE with S256, so a stolen code is less protected",
			"switch it on at the provider, if it can")
	case t.ClientSecret != "" && len(said.AuthWith) > 0 && !slices.Contains(said.AuthWith, "client_secret_basic") &&
		!slices.Contains(said.AuthWith, "client_secret_post"):
		t.note(checkEndpoints, Fail, "the provider accepts no client secret, only "+strings.Join(said.AuthWith, ", "),
			"allow client_secret_basic for this client at the provider")
	default:
		t.note(checkEndpoints, OK, "the metadata has all that a sign-in uses", "")
	}
	t.readKeys(ctx, m.Keys)
	t.tryClient(ctx, t.config(m))
	t.judgeConfig(said.Scopes, said.Claims)
}

// judgeConfig notes what of the configuration the provider says that it does not do. Providers need not say all.
func (t trial) judgeConfig(scopes, claims []string) {
	first, _, _ := strings.Cut(t.GroupsClaim, ".")
	switch {
	case t.CheckAtRefresh && presets[t.Preset].offline == nil && len(scopes) > 0 &&
		!slices.Contains(scopes, oidc.ScopeOfflineAccess):
		t.note(checkConfig, Warn,
			"check_at_refresh is on, and the provider does not offer the scope offline_access, "+
				"so it may give nothing to ask with later",
			"allow offline access for this client at the provider, or remove check_at_refresh")
	case t.GroupsClaim != "" && len(claims) > 0 && !slices.Contains(claims, t.GroupsClaim) &&
		!slices.Contains(claims, first):
		t.note(checkConfig, Warn,
			fmt.Sprintf("groups_claim is %s, which is not among the claims that the provider lists", t.GroupsClaim),
			"make the provider put the groups into the ID token, and compare the name of the claim")
	default:
		t.note(checkConfig, OK, "nothing speaks against it", "")
	}
}

// tryGitHub tests GitHub.
func (t trial) tryGitHub(ctx context.Context) {
	if _, ok := t.fetch(ctx, checkReachable, t.api()+"/meta"); !ok {
		return
	}
	t.note(checkReachable, OK, "its API answers at "+t.api(), "")
	t.note(checkIssuer, OK, "GitHub has no metadata to compare", "")
	t.note(checkEndpoints, OK, "its endpoints are known", "")
	t.note(checkKeys, OK, "GitHub signs no ID tokens", "")
	t.tryClient(ctx, t.github())
	t.note(checkConfig, OK, "nothing speaks against it", "")
}

// fetch reads a document, and compares the clocks. It reports whether there is one, and otherwise notes why not. From
// GitHub, which limits how often it is asked, any answer will do.
func (t trial) fetch(ctx context.Context, check, address string) (text []byte, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.note(check, Fail, cause(err), t.howIssuer())
		return nil, false
	}
	r.Header.Set("Accept", "application/json")
	resp, err := t.client.Do(r)
	if err != nil {
		t.note(check, Fail, address+" cannot be read: "+cause(err), t.why(err))
		return nil, false
	}
	defer func() { _ = resp.Body.Close() }()
	t.compareClocks(resp.Header.Get("Date"))
	text, err = io.ReadAll(resp.Body)
	switch {
	case err != nil:
		t.note(check, Fail, address+" cannot be read: "+cause(err),
			"try again; if it stays so, ask the administrator of the provider")
		return nil, false
	case t.Preset == "github" && resp.StatusCode < http.StatusInternalServerError:
	case resp.StatusCode >= http.StatusInternalServerError:
		t.note(check, Fail, address+" answers "+resp.Status, "wait until the provider works again")
		return nil, false
	case resp.StatusCode != http.StatusOK:
		t.note(check, Fail, address+" answers "+resp.Status, t.howIssuer())
		return nil, false
	}
	return text, true
}

// compareClocks compares this computer's clock with the date of an answer (RFC 9110 §6.6.1).
func (t trial) compareClocks(date string) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		t.note(checkClock, Skipped, "the provider does not say what time it is", "")
		return
	}
	off := t.now().Sub(theirs).Round(time.Second)
	word := "ahead of"
	if off < 0 {
		off, word = -off, "behind"
	}
	found := fmt.Sprintf("the clock of this computer is %s %s that of the provider", off, word)
	const fix = "set the clock of this computer by NTP; if it is right, that of the provider is wrong"
	switch {
	case off >= tooLate:
		t.note(checkClock, Fail, found+", so ID tokens are refused", fix)
	case off >= lateness:
		t.note(checkClock, Warn, found, fix)
	default:
		t.note(checkClock, OK, "the clocks agree", "")
	}
}

// readKeys reads the keys with which ID tokens are verified.
func (t trial) readKeys(ctx context.Context, address string) {
	text, ok := t.fetch(ctx, checkKeys, address)
	if !ok {
		return
	}
	var set jose.JSONWebKeySet
	err := json.Unmarshal(text, &set)
	usable := slices.ContainsFunc(set.Keys, func(k jose.JSONWebKey) bool { return k.IsPublic() && k.Use != "enc" })
	if err != nil || !usable {
		t.note(checkKeys, Fail, address+" has no key with which an ID token can be verified",
			"ask the administrator of the provider")
		return
	}
	t.note(checkKeys, OK, "the keys of ID tokens can be read", "")
}

// madeUp is a code that no provider gave out.
const madeUp = "cardea-provider-test"

// tryClient asks for a token with a code that does not exist. A provider that knows the client refuses the code, and
// otherwise the client (RFC 6749 §5.2).
func (t trial) tryClient(ctx context.Context, c *oauth2.Config) {
	_, err := c.Exchange(ctx, madeUp, oauth2.VerifierOption(oauth2.GenerateVerifier()))
	var answered *oauth2.RetrieveError
	code, status := "", 0
	if errors.As(err, &answered) {
		code, status = answered.ErrorCode, answered.Response.StatusCode
		t.compareClocks(answered.Response.Header.Get("Date"))
	}
	found := cause(t.failed(cmp.Or(err, errAccepted)))
	switch {
	case err == nil:
		t.note(checkClient, Fail, errAccepted.Error(), "do not use this provider")
	case answered == nil:
		t.note(checkClient, Fail, c.Endpoint.TokenURL+" cannot be reached: "+cause(err), t.why(err))
	case code == "redirect_uri_mismatch":
		t.note(checkRedirect, Fail, "the provider does not know the redirect URI "+t.RedirectURI,
			"register it there, exactly like this")
		t.note(checkClient, OK, "the provider knows the client", "")
	case slices.Contains(refusedCode, code) && t.Preset == "microsoft":
		t.note(checkClient, Skipped, "Microsoft looks at the code before the secret, so only a sign-in shows whether "+
			"client_id and client_secret are right", "")
	case slices.Contains(refusedCode, code):
		t.note(checkClient, OK, "the provider accepts client_id and client_secret", "")
	case slices.Contains(refusedClient, code), status == http.StatusUnauthorized:
		t.note(checkClient, Fail, "the provider does not accept client_id and client_secret: "+found,
			"compare both with what the provider shows; a secret may have expired, "+
				"and a file with it must not have more than the secret")
	case status >= http.StatusInternalServerError:
		t.note(checkClient, Warn, found, "wait until the provider works again")
	default:
		t.note(checkClient, Skipped, "it cannot be told without a person: "+found, "")
	}
}

var errAccepted = errors.New("the provider gives tokens for a code that it never gave out")

// The errors with which token endpoints refuse a code and a client. Those with more than RFC 6749 has are GitHub's.
var (
	refusedCode   = []string{"invalid_grant", "bad_verification_code"}
	refusedClient = []string{"invalid_client", "unauthorized_client", "incorrect_client_credentials"}
)

// cause returns what an error says, without the address, which the finding has.
func cause(err error) string {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.cause()
	}
	if request := (*url.Error)(nil); errors.As(err, &request) {
		err = request.Err
	}
	return err.Error()
}

// why says what to do if a request failed with err.
func (t trial) why(err error) string {
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		return "correct the host of issuer, or the DNS of this computer"
	case errors.As(err, &authority):
		return "the certificate is not signed by an authority that this computer trusts: add that authority to the " +
			"computer, or give the provider a public certificate"
	case errors.As(err, &host):
		return "the certificate is for another host: correct issuer, or the certificate of the provider"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the certificate of the provider; if it is valid, set the clock of this computer"
	case errors.As(err, &invalid):
		return "the certificate of the provider is not valid for a server: replace it"
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "there is no TLS at this port: correct the scheme or the port of issuer"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "nothing answers within 10 seconds: check that a firewall or proxy lets this computer connect there"
	}
	return "check that the provider runs, that issuer is right, and that this computer may connect there"
}

// howIssuer says what an issuer of this kind of provider looks like.
func (t trial) howIssuer() string {
	known := presets[t.Preset]
	return "correct issuer: it looks like " + cmp.Or(known.like, known.issuer, "https://id.example.com") +
		", without /.well-known/openid-configuration"
}
