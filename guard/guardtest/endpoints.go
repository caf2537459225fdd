package guardtest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
)

// grant is what a code or a refresh token gives access to.
type grant struct {
	client, redirectURI, challenge, resource, scope string
}

func (i *Issuer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", i.metadata)
	mux.HandleFunc("GET /.well-known/jwks",
		func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, i.keySet()) })
	mux.HandleFunc("GET /oauth2/authorize", i.authorize)
	mux.HandleFunc("POST /oauth2/token", i.token)
	mux.HandleFunc("POST /oauth2/register", i.register)
	mux.HandleFunc("POST /oauth2/introspect", i.introspect)
	mux.HandleFunc("GET "+statusPath, i.statusList)
	mux.HandleFunc("POST /oauth2/events", i.events)
	return i.count(mux)
}

func (i *Issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"issuer":                   i.URL,
		"jwks_uri":                 i.URL + "/.well-known/jwks",
		"authorization_endpoint":   i.URL + "/oauth2/authorize",
		"token_endpoint":           i.URL + "/oauth2/token",
		"registration_endpoint":    i.URL + "/oauth2/register",
		"introspection_endpoint":   i.URL + "/oauth2/introspect",
		"response_types_supported": []string{"code"},
		"grant_types_supported": []string{"authorization_code", "refresh_token",
			"client_credentials"},
		"token_endpoint_auth_methods_supported":          []string{"none", "client_secret_basic", "client_secret_post"},
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
	})
}

// register accepts every client (RFC 7591). Clients that ask for client_secret_basic share ClientSecret; others have no
// secret.
func (i *Issuer) register(w http.ResponseWriter, r *http.Request) {
	metadata := map[string]any{}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&metadata); err != nil {
		refuse(w, "invalid_client_metadata", "The body is not a JSON object.")
		return
	}
	id := "client-" + rand.Text()
	i.mu.Lock()
	i.clients[id] = true
	metadata["client_id_issued_at"] = i.now().Unix()
	i.mu.Unlock()
	metadata["client_id"] = id
	switch metadata["token_endpoint_auth_method"] {
	case "client_secret_basic", "client_secret_post":
		metadata["client_secret"] = i.ClientSecret
		metadata["client_secret_expires_at"] = 0
	default:
		metadata["token_endpoint_auth_method"] = "none"
	}
	answer(w, http.StatusCreated, metadata)
}

// authorize consents in the name of User (RFC 6749 §4.1).
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	g := grant{q.Get("client_id"), q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("resource"), q.Get("scope")}
	back, err := url.Parse(g.redirectURI)
	i.mu.Lock()
	known := g.client == i.ClientID || i.clients[g.client]
	i.mu.Unlock()
	switch {
	case err != nil || !back.IsAbs() || !known:
		refuse(w, "invalid_request", "client_id or redirect_uri is wrong.")
		return
	case q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || g.challenge == "":
		refuse(w, "invalid_request", "Only response_type=code with PKCE S256.")
		return
	}
	code := rand.Text()
	i.mu.Lock()
	i.codes[code] = g
	i.mu.Unlock()
	answer := back.Query()
	answer.Set("code", code)
	answer.Set("iss", i.URL)
	if q.Has("state") {
		answer.Set("state", q.Get("state"))
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusSeeOther)
}

// token answers the three grants (RFC 6749 §3.2).
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	client, secret := i.client(r)
	kind := r.PostFormValue("grant_type")
	var g grant
	var found bool
	switch kind {
	case "client_credentials":
		g = grant{client: client, resource: or(r.PostFormValue("resource"), r.PostFormValue("audience")),
			scope: r.PostFormValue("scope")}
		found = secret
	case "authorization_code":
		g, found = i.spend(i.codes, r.PostFormValue("code"))
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		found = found && g.challenge == base64.RawURLEncoding.EncodeToString(sum[:]) &&
			g.redirectURI == r.PostFormValue("redirect_uri")
	case "refresh_token":
		g, found = i.spend(i.refresh, r.PostFormValue("refresh_token"))
	default:
		refuse(w, "unsupported_grant_type", "Not a grant this issuer knows.")
		return
	}
	if !found || g.client != client {
		refuse(w, "invalid_grant", "The grant is not good, or not this client's.")
		return
	}
	response := map[string]any{"token_type": "Bearer", "expires_in": 600, "scope": g.scope}
	claims := Claims{ClientID: client, Audience: g.resource, Scope: g.scope}
	if kind == "client_credentials" {
		claims.Subject = client
	} else {
		next := rand.Text()
		i.mu.Lock()
		i.refresh[next] = g
		i.mu.Unlock()
		response["refresh_token"] = next
	}
	response["access_token"] = i.Token(claims)
	answer(w, http.StatusOK, response)
}

// spend uses up a code or a refresh token.
func (i *Issuer) spend(from map[string]grant, value string) (grant, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	g, found := from[value]
	delete(from, value)
	return g, found
}

// client returns the client that sent the request, and whether it authenticated with the secret.
func (i *Issuer) client(r *http.Request) (id string, proven bool) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	} else if plain, err := url.QueryUnescape(secret); err == nil {
		secret = plain
	}
	return id, subtle.ConstantTimeCompare([]byte(secret), []byte(i.ClientSecret)) == 1
}

// introspect answers every client that has the secret (RFC 7662).
func (i *Issuer) introspect(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if _, proven := i.client(r); !proven {
		w.Header().Set("WWW-Authenticate", "Basic")
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	claims := i.claimsOf(r.PostFormValue("token"))
	if claims == nil {
		claims = map[string]any{"active": false}
	} else {
		claims["active"] = true
		claims["token_type"] = "Bearer"
	}
	answer(w, http.StatusOK, claims)
}
