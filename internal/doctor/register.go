package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
)

// registered is what became of the test client.
type registered struct {
	answer              // of the registration
	skipped      string // why there is none
	id, secret   string
	method       string // token_endpoint_auth_method
	manage, key  string // its registration URI and access token (RFC 7592)
	redirect     string // where it listens
	listener     net.Listener
	left         string // why the client stays, "" if it does not
	own          answer // its authorization request
	otherPort    answer // the same with another port of the redirect URI
	moreScopes   answer // the same with offline_access and openid
	document     answer // the same by a client with a metadata document
	bogusRefresh answer
}

// refusal returns the error of the authorization request, or "".
func (r registered) refusal() string { return refusalOf(r.own, r.redirect) }

// knownDocument is the metadata document of a client in wide use, with one of its redirect URIs.
var knownDocument = struct{ id, redirect string }{"https://claude.ai/oauth/claude-code-client-metadata",
	"http://localhost:41337/callback"}

// probeClient registers a client, looks at its authorization request, and lets a person sign in.
func (f *facts) probeClient(ctx context.Context) {
	skip := func(why string) { f.registered.skipped, f.login.skipped = why, why }
	d := f.as()
	switch {
	case f.certificate != nil:
		skip("the certificate is not trusted, and a secret would be sent")
		return
	case !d.ok():
		skip("there is no metadata of the authorization server")
		return
	case !secure(parse(d.text("authorization_endpoint"))) || !secure(parse(d.text("token_endpoint"))):
		skip("authorization_endpoint and token_endpoint are not https URLs")
		return
	}
	bounded, cancel := context.WithTimeout(ctx, allProbes)
	defer cancel()
	r := &f.registered
	var err error
	if r.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		skip("this computer lets nothing listen on a port: " + err.Error())
		return
	}
	defer func() { _ = r.listener.Close() }() // the login may have closed it
	r.redirect = "http://" + r.listener.Addr().String() + "/callback"
	if f.options.ClientID != "" {
		r.id, r.secret, r.method = f.options.ClientID, f.options.ClientSecret, "none"
		if r.secret != "" {
			r.method = "client_secret_basic"
		}
	} else {
		f.options.Progress("registering a test client")
		f.register(bounded)
	}
	if r.id != "" {
		if f.use == nil {
			f.options.Progress("looking at its authorization request")
			f.tryAuthorization(bounded)
		}
		if f.options.Login {
			f.logIn(ctx)
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*perRequest)
		f.line.left = max(f.line.left, 5) // what cleans up is sent in any case
		f.revoke(end)
		r.bogusRefresh = f.tokenRequest(end, url.Values{"grant_type": {"refresh_token"},
			"refresh_token": {"cardea-doctor-nobody-issued-this"}})
		f.unregister(end)
		cancel()
	}
	if f.login.skipped == "" && !f.login.done {
		f.login.skipped = "there is no client to sign in with"
		if !f.options.Login {
			f.login.skipped = notAsked("--login")
		}
	}
}

func notAsked(flag string) string { return "not asked for; give " + flag }

func (f *facts) register(ctx context.Context) {
	r, address := &f.registered, f.as().text("registration_endpoint")
	if !secure(parse(address)) {
		r.skipped = "there is no registration endpoint with https; give --client-id"
		return
	}
	method := "none"
	if methods := f.as().texts("token_endpoint_auth_methods_supported"); len(methods) > 0 &&
		!slices.Contains(methods, "none") {
		method = methods[0]
	}
	metadata := map[string]any{"client_name": testName, "redirect_uris": []string{r.redirect},
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": method, "application_type": "native"}
	body, err := json.Marshal(metadata)
	if err != nil {
		panic(err) // strings marshal
	}
	// Prefer (RFC 7240) asks a Cardea for the means to delete the client, which it gives no other public client.
	r.answer = f.line.ask(ctx, http.MethodPost, address, body, http.Header{"Content-Type": {"application/json"},
		"Accept": {"application/json"}, "Prefer": {"registration-management"}})
	members := r.object()
	if r.status != http.StatusCreated && r.status != http.StatusOK {
		return
	}
	r.id, r.secret, r.method = text(members["client_id"]), text(members["client_secret"]),
		cmp.Or(text(members["token_endpoint_auth_method"]), method)
	r.manage, r.key = text(members["registration_client_uri"]), text(members["registration_access_token"])
}

// unregister deletes the test client, if the authorization server can (RFC 7592 §2.3).
func (f *facts) unregister(ctx context.Context) {
	r := &f.registered
	switch {
	case f.options.ClientID != "":
		return
	case r.manage == "" || r.key == "":
		r.left = "it got no registration access token (RFC 7592)"
		return
	case !secure(parse(r.manage)):
		r.left = "its registration_client_uri is not an https URL"
		return
	}
	var gone answer
	for range 2 { // a second time if the server had a bad moment
		gone = f.line.ask(ctx, http.MethodDelete, r.manage, nil, http.Header{"Authorization": {"Bearer " + r.key}})
		if gone.came() && gone.status < 500 {
			break
		}
	}
	switch {
	case gone.status >= 200 && gone.status < 300, gone.status == http.StatusNotFound, gone.status == http.StatusGone:
		r.left = ""
	default:
		r.left = "deleting it is answered with " + tell(gone)
	}
}

const testName = "cardea doctor (a test; delete it)"

// pkce makes a verifier and its challenge (RFC 7636 §4).
func pkce() (verifier, challenge string) {
	verifier = rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	return verifier, base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizationURL returns an authorization request with these parameters in place of the usual ones; "" leaves one
// out.
func (f *facts) authorizationURL(pairs ...string) string {
	address := parse(f.as().text("authorization_endpoint"))
	_, challenge := pkce()
	query := address.Query()
	set := func(pairs ...string) {
		for pair := range slices.Chunk(pairs, 2) {
			if query.Del(pair[0]); pair[1] != "" {
				query.Set(pair[0], pair[1])
			}
		}
	}
	set("response_type", "code", "client_id", f.registered.id, "redirect_uri", f.registered.redirect,
		"state", rand.Text(),
		"code_challenge", challenge, "code_challenge_method", "S256", "resource", f.resource(), "scope",
		strings.Join(f.wanted(), " "))
	set(pairs...)
	address.RawQuery = query.Encode()
	return address.String()
}

// resource returns what clients send as resource.
func (f *facts) resource() string {
	if named := f.prm().text("resource"); named != "" {
		return named
	}
	return f.endpoint.String()
}

// wanted returns the scopes to ask for.
func (f *facts) wanted() []string {
	if len(f.options.Scopes) > 0 {
		return f.options.Scopes
	}
	list, _ := f.scopes()
	return list
}

// tryAuthorization looks at what the authorization endpoint says before anybody signs in.
func (f *facts) tryAuthorization(ctx context.Context) {
	r := &f.registered
	r.own = f.browse(ctx, f.authorizationURL(), r.redirect)
	if refusalOf(r.own, r.redirect) == "" {
		other := "http://127.0.0.1:9/callback" // nothing listens there, and nothing needs to
		if f.options.ClientID == "" {
			r.otherPort = f.browse(ctx, f.authorizationURL("redirect_uri", other), other)
		}
		r.moreScopes = f.browse(ctx, f.authorizationURL("scope",
			strings.Join(append(slices.Clone(f.wanted()), "offline_access", "openid"), " ")), r.redirect)
		if f.as().members["client_id_metadata_document_supported"] == true && f.options.Register {
			r.document = f.browse(ctx,
				f.authorizationURL("client_id", knownDocument.id, "redirect_uri", knownDocument.redirect),
				knownDocument.redirect)
		}
	}
}

// browse opens a URL as a browser does, and follows redirects until one leads to the client.
func (f *facts) browse(ctx context.Context, address, redirect string) answer {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return answer{err: err}
	}
	own := f.line.client.Jar
	f.line.client.Jar = jar
	defer func() { f.line.client.Jar = own }()
	var a answer
	for range 6 {
		a = f.line.ask(ctx, http.MethodGet, address, nil, http.Header{"Accept": {"text/html"}})
		to := a.moved()
		if to == nil || strings.HasPrefix(to.String(), redirect) {
			break
		}
		if from := parse(address); !sameServer(from, to) {
			return a // the sign-in page of somebody else, which is not ours to load
		}
		address = to.String()
	}
	return a
}

// refusalOf returns why an authorization request was refused: the error of the redirect, or the status of the page.
func refusalOf(a answer, redirect string) string {
	if to := a.moved(); to != nil && strings.HasPrefix(to.String(), redirect) {
		return to.Query().Get("error")
	}
	if a.status >= 400 {
		if code := text(a.object()["error"]); code != "" {
			return code
		}
		return fmt.Sprintf("a page with status %d", a.status)
	}
	return ""
}

// tokenRequest sends a request to the token endpoint, with the authentication of the client.
func (f *facts) tokenRequest(ctx context.Context, form url.Values) answer {
	return f.authenticated(ctx, f.as().text("token_endpoint"), form)
}

// authenticated sends a form to address, with the authentication of the client.
func (f *facts) authenticated(ctx context.Context, address string, form url.Values) answer {
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}}
	switch r := f.registered; r.method {
	case "client_secret_basic":
		h.Set("Authorization",
			"Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(r.id)+":"+url.QueryEscape(r.secret))))
	case "client_secret_post":
		form.Set("client_secret", r.secret)
		form.Set("client_id", r.id)
	default:
		form.Set("client_id", r.id)
	}
	return f.line.ask(ctx, http.MethodPost, address, []byte(form.Encode()), h)
}
