// Package client knows who asks for tokens: it registers clients (RFC 7591) and
// authenticates them (RFC 6749 §2.3).
package client

import (
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// Bounds of what a client may say of itself.
const (
	maxText         = 512 // bytes of a name or a URI
	maxRedirectURIs = 32
	maxContacts     = 8
)

// Methods are the client authentication methods that are served, in the order
// in which the metadata lists them.
var Methods = []oauth.Method{oauth.MethodNone, oauth.MethodBasic, oauth.MethodPost, oauth.MethodPrivateKeyJWT}

// Check fills in what m leaves out and refuses what it must not say (RFC 7591
// §2): invalid_redirect_uri or invalid_client_metadata. issuer is this server's
// own URL, to which nothing may redirect.
//
//   - grant_types defaults to the code flow with refresh tokens; types that are
//     unknown here are dropped.
//   - response_types defaults to code, and is empty without the code flow.
//   - token_endpoint_auth_method defaults to none for a client with a redirect
//     to the user's own computer, which can keep no secret, and to
//     client_secret_basic for any other.
//   - application_type follows the redirects: a client with one to loopback or a
//     private-use scheme is native, whatever it says.
func Check(m *oauth.Metadata, issuer string) error {
	if err := checkGrantTypes(m); err != nil {
		return err
	}
	if err := checkRedirectURIs(m, issuer); err != nil {
		return err
	}
	native := slices.ContainsFunc(m.RedirectURIs, oauth.IsNativeRedirect)
	switch {
	case m.Method == "" && native:
		m.Method = oauth.MethodNone
	case m.Method == "":
		m.Method = oauth.MethodBasic
	case !slices.Contains(Methods, m.Method):
		return oauth.Refuse(oauth.InvalidClientMetadata, "token_endpoint_auth_method %.40q is not supported: use one of %s", m.Method, oauth.Listed(Methods))
	}
	if m.Method == oauth.MethodNone && slices.Contains(m.GrantTypes, oauth.ClientCredentials) {
		return oauth.Refuse(oauth.InvalidClientMetadata, "client_credentials needs a client that can authenticate: token_endpoint_auth_method cannot be none")
	}
	if err := assertion.CheckKeys(m); err != nil {
		return err
	}
	if len(m.RedirectURIs) > 0 {
		m.ApplicationType = "web"
		if native {
			m.ApplicationType = "native"
		}
	}
	return checkWords(m)
}

func checkGrantTypes(m *oauth.Metadata) error {
	if len(m.GrantTypes) == 0 {
		m.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken}
	}
	var known []oauth.GrantType
	for _, g := range m.GrantTypes {
		switch g {
		case oauth.AuthorizationCode, oauth.RefreshToken, oauth.ClientCredentials:
			if !slices.Contains(known, g) {
				known = append(known, g)
			}
		}
	}
	m.GrantTypes = known
	code := slices.Contains(known, oauth.AuthorizationCode)
	switch {
	case !code && !slices.Contains(known, oauth.ClientCredentials):
		return oauth.Refuse(oauth.InvalidClientMetadata, "grant_types names nothing that starts here: register authorization_code")
	case !code && len(m.RedirectURIs) > 0:
		return oauth.Refuse(oauth.InvalidClientMetadata, "redirect_uris are for the authorization_code grant, which grant_types does not name")
	case !code:
		m.ResponseTypes = nil
	case len(m.ResponseTypes) > 0 && !slices.Contains(m.ResponseTypes, "code"):
		return oauth.Refuse(oauth.InvalidClientMetadata, "response_types must contain code: this server has no other")
	default:
		m.ResponseTypes = []string{"code"}
	}
	return nil
}

func checkRedirectURIs(m *oauth.Metadata, issuer string) error {
	switch code := slices.Contains(m.GrantTypes, oauth.AuthorizationCode); {
	case code && len(m.RedirectURIs) == 0:
		return oauth.Refuse(oauth.InvalidRedirectURI, "redirect_uris is missing: the authorization_code grant needs at least one")
	case len(m.RedirectURIs) > maxRedirectURIs:
		return oauth.Refuse(oauth.InvalidRedirectURI, "redirect_uris has more than %d entries", maxRedirectURIs)
	}
	own, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	m.RedirectURIs = slices.Clone(m.RedirectURIs)
	for i, uri := range m.RedirectURIs {
		uri, err := oauth.CheckRedirectURI(uri, Schemes)
		if err != nil {
			return err
		}
		m.RedirectURIs[i] = uri
		if u, err := url.Parse(uri); err == nil && origin(u) == origin(own) {
			return oauth.Refuse(oauth.InvalidRedirectURI, "redirect URI %.200q points to this authorization server itself", uri)
		}
	}
	return nil
}

// origin returns the origin of an absolute URL in one way of writing it: lower
// case, with the port, without the dot at the end of a host (RFC 6454 §4).
func origin(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	case u.Scheme == "http":
		port = "80"
	}
	return u.Scheme + "://" + strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) + ":" + port
}

// checkWords looks at what is only shown to people.
func checkWords(m *oauth.Metadata) error {
	for _, text := range []struct{ name, value string }{
		{"client_name", m.Name}, {"software_id", m.SoftwareID}, {"software_version", m.SoftwareVersion},
	} {
		if len(text.value) > maxText || !utf8.ValidString(text.value) {
			return oauth.Refuse(oauth.InvalidClientMetadata, "%s must be UTF-8 of at most %d bytes", text.name, maxText)
		}
	}
	for _, uri := range []struct{ name, value string }{
		{"client_uri", m.URI}, {"logo_uri", m.LogoURI}, {"tos_uri", m.TOSURI}, {"policy_uri", m.PolicyURI},
	} {
		if err := oauth.CheckWebURI(uri.name, uri.value); err != nil {
			return err
		}
	}
	if len(m.Contacts) > maxContacts || slices.ContainsFunc(m.Contacts, func(c string) bool { return len(c) > maxText }) {
		return oauth.Refuse(oauth.InvalidClientMetadata, "contacts has at most %d entries of at most %d bytes", maxContacts, maxText)
	}
	if _, err := scope.Parse(m.Scope); err != nil {
		return oauth.Refuse(oauth.InvalidClientMetadata, "scope is not a list of scope names separated by spaces (RFC 6749 section 3.3)")
	}
	return nil
}
