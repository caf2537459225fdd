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
var errRegistrationToken = oauth.Refuse(oauth.InvalidToken, "send the registration access token of this client as "+
	"Authorization: Bearer; if the client is gone, register it again")

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

// Update answers PUT /oauth2/register/{client_id} (RFC 7592 §2.2): the metadata of the request replaces the registered
// metadata, and members that are missing return to their defaults. The operator's approval ends if the redirect URIs,
// keys, names or links change or a grant type is added, because the operator approved a client with other ones.
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

// Delete answers DELETE /oauth2/register/{client_id} (RFC 7592 §2.3). It deletes the client and its grants, and thereby
// ends all their tokens.
func (e *Endpoint) Delete(r *http.Request) (web.Reply, error) {
	event := audit.Management("delete", r.PathValue("client_id"))
	if _, _, err := e.owned(r); err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, event, err)
	}
	err := e.change(r, event, func(tx *store.Tx, c *oauth.Client) error { return tx.DeleteClient(c.ID) })
	return web.Reply{Status: http.StatusNoContent}, err
}

// change locks the client of r, runs do on its current state, and records the outcome.
func (e *Endpoint) change(r *http.Request, event audit.Event, do func(*store.Tx, *oauth.Client) error) error {
	return e.DB.Update(r.Context(), func(tx *store.Tx) error {
		// The client is locked, because sameFace compares it with its old state.
		c, err := e.enabled(tx.LockClient(r.PathValue("client_id")))
		if err == nil {
			err = do(tx, c)
		}
		if errors.Is(err, store.ErrNotFound) { // deleted in the meantime
			err = errRegistrationToken
		}
		return e.Strangers.Conclude(tx, r, event, err)
	})
}

// owned returns the client in the path of r and its registration access token. It returns errRegistrationToken if r
// does not have that token (RFC 7592 §3).
func (e *Endpoint) owned(r *http.Request) (*oauth.Client, string, error) {
	token := bearer(r)
	c, err := e.enabled(e.DB.Client(r.Context(), r.PathValue("client_id")))
	switch {
	case err != nil:
		return nil, "", err
	case !c.MatchRegistrationToken(token):
		return nil, "", errRegistrationToken
	}
	return c, token, nil
}

// enabled returns the result of a client lookup, or errRegistrationToken if the client does not exist, is disabled or
// has expired.
func (e *Endpoint) enabled(c *oauth.Client, err error) (*oauth.Client, error) {
	c, err = (&client.Directory{DB: e.DB}).Known(c, err)
	if errors.Is(err, client.ErrGone) || errors.Is(err, client.ErrDisabled) || errors.Is(err, client.ErrExpired) {
		return nil, errRegistrationToken
	}
	return c, err
}

// update is the body of an update request.
type update struct {
	metadata *oauth.Metadata

	ClientID string `json:"client_id"`
	Secret   string `json:"client_secret"`
	// Members that only the server sets (RFC 7592 §2.2).
	RegistrationURI   *ignored `json:"registration_client_uri"`
	RegistrationToken *ignored `json:"registration_access_token"`
	SecretExpiresAt   *ignored `json:"client_secret_expires_at"`
	IssuedAt          *ignored `json:"client_id_issued_at"`
}

// ignored is a JSON value that is not parsed, so that its nesting costs nothing. A nil *ignored means that the member
// is missing or null.
type ignored struct{}

// UnmarshalJSON accepts every value.
func (*ignored) UnmarshalJSON([]byte) error { return nil }

// readUpdate parses the request and makes the checks that do not depend on the stored client.
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
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "client_id and client_secret must be strings")
	case u.ClientID == "":
		return nil, oauth.Refuse(oauth.InvalidClientMetadata,
			"client_id is missing: an update must contain the client_id (RFC 7592 section 2.2)")
	case u.ClientID != r.PathValue("client_id"):
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "client_id differs from the one in the URL")
	case u.RegistrationURI != nil, u.RegistrationToken != nil, u.SecretExpiresAt != nil, u.IssuedAt != nil:
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "registration_client_uri, registration_access_token, "+
			"client_secret_expires_at and client_id_issued_at must be left out (RFC 7592 section 2.2)")
	}
	return u, nil
}

// apply changes c to what u contains, or returns a refusal if the change is not allowed.
func (u *update) apply(tx *store.Tx, c *oauth.Client) error {
	before := c.Metadata
	blocks, err := tx.BlocksNow()
	if err != nil {
		return err
	}
	renewed := *c
	renewed.Metadata = *u.metadata
	switch {
	case client.BlockOf(blocks, &renewed) != nil:
		return errBlocked
	case u.Secret != "" && !c.MatchSecret(u.Secret, tx.Now()):
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"client_secret is not the one that was issued: send that one, or leave client_secret out")
	case kind(u.metadata.Method) != kind(before.Method):
		return oauth.Refuse(oauth.InvalidClientMetadata, "token_endpoint_auth_method cannot change from %s to %s: "+
			"send %s, or register a new client", before.Method, u.metadata.Method, before.Method)
	}
	c.Metadata = *u.metadata
	return tx.ReplaceMetadata(c, sameFace(&before, u.metadata))
}

// kind groups authentication methods by the credential that they use: none, a secret, or a key.
func kind(m oauth.Method) oauth.Method {
	if m == oauth.MethodPost {
		return oauth.MethodBasic
	}
	return m
}

// sameFace reports whether an approval of a also holds for b: b has the same names, links, redirect URIs and keys, and
// no additional grant types.
func sameFace(a, b *oauth.Metadata) bool {
	more := slices.ContainsFunc(b.GrantTypes, func(g oauth.GrantType) bool { return !slices.Contains(a.GrantTypes, g) })
	return !more && a.SameTrust(b) && a.Name == b.Name && a.URI == b.URI && a.LogoURI == b.LogoURI &&
		a.TOSURI == b.TOSURI && a.PolicyURI == b.PolicyURI
}
