package registration

import (
	"errors"
	"net/http"
	"slices"

	"github.com/go-jose/go-jose/v4/json"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// errRegistrationToken refuses a request without the registration access token of the client. It is the same if the
// client does not exist or is disabled, so that it does not reveal which clients exist.
var errRegistrationToken = oauth.Refuse(oauth.InvalidToken, "send the registration access token of this client as Authorization: Bearer; if the client is gone, register it again")

// Read answers GET /oauth2/register/{client_id} (RFC 7592 §2.1) with what is registered. It does not return the client
// secret, because only its hash is stored. The registration access token is the one that was sent: it stays the same
// for as long as the client lives.
func (e *Endpoint) Read(r *http.Request) (web.Reply, error) {
	c, token, err := e.owned(r)
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Management("read", r.PathValue("client_id")), err)
	}
	return web.Reply{Body: e.information(c, "", token)}, nil
}

// Update answers PUT /oauth2/register/{client_id} (RFC 7592 §2.2): what is sent
// replaces all that was registered, and what is left out has its default again. An
// operator's approval ends when people or codes would meet another client than
// the one that was approved: with other redirect URIs, keys, names or links, or with
// one more grant type.
func (e *Endpoint) Update(r *http.Request) (web.Reply, error) {
	event := audit.Management("update", r.PathValue("client_id"))
	_, token, err := e.owned(r)
	var u *update
	if err == nil {
		u, err = e.readUpdate(r)
	}
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, event, err)
	}
	if ok, after := e.Updates.Admit(r); !ok {
		return web.Reply{}, e.Strangers.TurnAway(r, "client.update", after, "too many updates: try again later")
	}
	var c *oauth.Client
	err = e.change(r, event, func(tx *store.Tx, found *oauth.Client) error {
		c = found
		return u.apply(tx, c)
	})
	if err != nil {
		return web.Reply{}, err
	}
	return web.Reply{Body: e.information(c, u.Secret, token)}, nil
}

// Delete answers DELETE /oauth2/register/{client_id} (RFC 7592 §2.3): the client,
// its grants and all their tokens are gone.
func (e *Endpoint) Delete(r *http.Request) (web.Reply, error) {
	event := audit.Management("delete", r.PathValue("client_id"))
	if _, _, err := e.owned(r); err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, event, err)
	}
	err := e.change(r, event, func(tx *store.Tx, c *oauth.Client) error { return tx.DeleteClient(c.ID) })
	return web.Reply{Status: http.StatusNoContent}, err
}

// change runs do on the client that r is about, as it is now, and records how that
// ended.
func (e *Endpoint) change(r *http.Request, event audit.Event, do func(*store.Tx, *oauth.Client) error) error {
	return e.DB.Update(r.Context(), func(tx *store.Tx) error {
		c, err := enabled(tx.LockClient(r.PathValue("client_id"))) // whose approval depends on what it was
		if err == nil {
			err = do(tx, c)
		}
		if errors.Is(err, store.ErrNotFound) { // deleted just now
			err = errRegistrationToken
		}
		return e.Strangers.Conclude(tx, r, event, err)
	})
}

// owned returns the client that r is about, if r shows its registration access
// token, and the token (RFC 7592 §3).
func (e *Endpoint) owned(r *http.Request) (*oauth.Client, string, error) {
	token := bearer(r)
	c, err := enabled(e.DB.Client(r.Context(), r.PathValue("client_id")))
	switch {
	case err != nil:
		return nil, "", err
	case !c.MatchRegistrationToken(token):
		return nil, "", errRegistrationToken
	}
	return c, token, nil
}

// enabled passes on a client that was looked up, unless it is gone or disabled.
func enabled(c *oauth.Client, err error) (*oauth.Client, error) {
	c, err = client.Known(c, err)
	if errors.Is(err, client.ErrGone) || errors.Is(err, client.ErrDisabled) {
		return nil, errRegistrationToken
	}
	return c, err
}

// update is what a client wants to be registered as from now on.
type update struct {
	metadata *oauth.Metadata

	ClientID string `json:"client_id"`
	Secret   string `json:"client_secret"`
	// What the server alone says (RFC 7592 §2.2).
	RegistrationURI   *ignored `json:"registration_client_uri"`
	RegistrationToken *ignored `json:"registration_access_token"`
	SecretExpiresAt   *ignored `json:"client_secret_expires_at"`
	IssuedAt          *ignored `json:"client_id_issued_at"`
}

// ignored is a value that is not parsed, however deep it is; nil is none, or null.
type ignored struct{}

// UnmarshalJSON takes any value.
func (*ignored) UnmarshalJSON([]byte) error { return nil }

// readUpdate parses and checks what can be checked without the client as it is.
func (e *Endpoint) readUpdate(r *http.Request) (*update, error) {
	body, err := readObject(r)
	if err != nil {
		return nil, err
	}
	u := new(update)
	if u.metadata, err = e.parse(body); err != nil {
		return nil, err
	}
	switch err := json.Unmarshal(body, u); {
	case err != nil:
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "client_id and client_secret must be text")
	case u.ClientID == "":
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "client_id is missing: an update names its client (RFC 7592 section 2.2)")
	case u.ClientID != r.PathValue("client_id"):
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "client_id is not that of the address")
	case u.RegistrationURI != nil, u.RegistrationToken != nil, u.SecretExpiresAt != nil, u.IssuedAt != nil:
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "registration_client_uri, registration_access_token, client_secret_expires_at and client_id_issued_at must be left out (RFC 7592 section 2.2)")
	}
	return u, nil
}

// apply makes c what u says, or refuses what c may not become.
func (u *update) apply(tx *store.Tx, c *oauth.Client) error {
	before := c.Metadata
	switch {
	case u.Secret != "" && !c.MatchSecret(u.Secret, tx.Now()):
		return oauth.Refuse(oauth.InvalidClientMetadata, "client_secret is not the one that was issued: send that, or none")
	case kind(u.metadata.Method) != kind(before.Method):
		return oauth.Refuse(oauth.InvalidClientMetadata, "token_endpoint_auth_method would change from %s to %s: say %s, or register a new client", before.Method, u.metadata.Method, before.Method)
	}
	c.Metadata = *u.metadata
	return tx.ReplaceMetadata(c, sameFace(&before, u.metadata))
}

// kind tells methods apart by what proves the client: nothing, a secret, or a key.
func kind(m oauth.Method) oauth.Method {
	if m == oauth.MethodPost {
		return oauth.MethodBasic
	}
	return m
}

// sameFace reports whether people, and those who vouched for a, would take b for
// it: codes and keys make no difference between them, and b may do no more.
func sameFace(a, b *oauth.Metadata) bool {
	more := slices.ContainsFunc(b.GrantTypes, func(g oauth.GrantType) bool { return !slices.Contains(a.GrantTypes, g) })
	return !more && a.SameTrust(b) && a.Name == b.Name && a.URI == b.URI && a.LogoURI == b.LogoURI && a.TOSURI == b.TOSURI && a.PolicyURI == b.PolicyURI
}
