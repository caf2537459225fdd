// Package client finds clients, including those with a metadata document on their own web site, reads their metadata
// (RFC 7591 §2), and authenticates them (RFC 6749 §2.3).
package client

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json" // distinguishes names by case and refuses duplicate names
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// Bounds of a client's metadata.
const (
	maxText         = 512     // bytes of a name or a URI
	maxScope        = 8 << 10 // bytes
	maxRedirectURIs = 32
	maxContacts     = 8
)

// Methods are the client authentication methods that this server supports, in the order in which its metadata lists
// them.
var Methods = []oauth.Method{oauth.MethodNone, oauth.MethodBasic, oauth.MethodPost, oauth.MethodPrivateKeyJWT}

// ErrNotObject is the error of Read if the text is not a JSON object, or has a duplicate name.
var ErrNotObject = errors.New("client: the metadata must be one JSON object without duplicate names")

// Read parses the client metadata of a registration request or a metadata document (RFC 7591 §2).
//
// Read ignores an optional member that this server cannot use: one of the wrong type or too long, a link that is not a
// web address, or a grant type that is not supported or that only an operator can give. It returns a refusal if
// redirect_uris, the authentication methods or jwks_uri are of the wrong type, or if no grant type is left, because
// these decide who the client is and where its codes go. The result must still pass Check.
func Read(text []byte) (*oauth.Metadata, error) {
	var said members
	if err := unmarshal(text, &said); err != nil || said == nil {
		return nil, ErrNotObject
	}
	m := &oauth.Metadata{
		Name:            said.words("client_name"),
		URI:             said.link("client_uri"),
		LogoURI:         said.link("logo_uri"),
		TOSURI:          said.link("tos_uri"),
		PolicyURI:       said.link("policy_uri"),
		SoftwareID:      said.words("software_id"),
		SoftwareVersion: said.words("software_version"),
		ResponseTypes:   said.list("response_types"),
		JWKS:            []byte(said["jwks"]),
	}
	for _, contact := range said.list("contacts") {
		if len(contact) <= maxText && len(m.Contacts) < maxContacts {
			m.Contacts = append(m.Contacts, contact)
		}
	}
	if text := said.text("scope"); len(text) <= maxScope {
		if _, err := scope.Parse(text); err == nil {
			m.Scope = text
		}
	}
	for _, decides := range []struct {
		name string
		into any
		want string
	}{
		{"redirect_uris", &m.RedirectURIs, "a list of texts"},
		{"token_endpoint_auth_method", &m.Method, "text"},
		{"token_endpoint_auth_methods_supported", &m.Methods, "a list of texts"},
		{"jwks_uri", &m.JWKSURI, "text"},
	} {
		value, ok := said[decides.name]
		if ok && unmarshal(value, decides.into) != nil {
			code := oauth.InvalidClientMetadata
			if decides.name == "redirect_uris" {
				code = oauth.InvalidRedirectURI
			}
			return nil, oauth.Refuse(code, "%s must be %s (RFC 7591 section 2)", decides.name, decides.want)
		}
	}
	m.SigningAlg = said.text("token_endpoint_auth_signing_alg")
	if m.SigningAlg == "" && said.present("token_endpoint_auth_signing_alg") && signs(m) {
		return nil, oauth.Refuse(oauth.InvalidClientMetadata, "token_endpoint_auth_signing_alg must be one of %s",
			oauth.Listed(oauth.SigningAlgs))
	}
	named := said.list("grant_types")
	for _, name := range named {
		if rule, ok := oauth.GrantType(name).Rule(); ok && rule.Registrable {
			m.GrantTypes = append(m.GrantTypes, rule.Type)
		}
	}
	if len(named) > 0 && len(m.GrantTypes) == 0 {
		return nil, oauth.Refuse(oauth.InvalidClientMetadata,
			"grant_types contains none that a client can register here: use authorization_code and refresh_token; an "+
				"operator can create clients with %s", oauth.Listed(operatorsGrants()))
	}
	return m, nil
}

// operatorsGrants returns the grant types that only an operator can give to a client.
func operatorsGrants() []oauth.GrantType {
	return slices.DeleteFunc(oauth.GrantTypes(), func(g oauth.GrantType) bool {
		rule, _ := g.Rule()
		return rule.Registrable
	})
}

// members are the members of a JSON object, not parsed yet.
type members map[string]jsontext.Value

// lenient replaces what is not UTF-8 in a text with U+FFFD.
var lenient = jsontext.AllowInvalidUTF8(true)

func unmarshal(text []byte, into any) error { return json.Unmarshal(text, into, lenient) }

// present reports whether a member exists and is neither null nor the empty string.
func (m members) present(name string) bool {
	value := string(m[name])
	return value != "" && value != "null" && value != `""`
}

// text returns a member that is a string, or "" if it is missing or of another type.
func (m members) text(name string) string {
	value, ok := m[name]
	var text string
	if !ok || unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// list returns the elements of a member that are non-empty strings, or nil if the member is not a list.
func (m members) list(name string) []string {
	value, ok := m[name]
	if !ok {
		return nil
	}
	var texts []string
	if unmarshal(value, &texts) != nil { // not all of them are strings
		var elements []jsontext.Value
		_ = unmarshal(value, &elements)
		texts = nil
		for _, element := range elements {
			texts = append(texts, members{name: element}.text(name))
		}
	}
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

// words returns a member that is shown to people, or "" if it is too long or not UTF-8.
func (m members) words(name string) string {
	text := m.text(name)
	if checkText(name, text) != nil {
		return ""
	}
	return text
}

// link returns a member that is a web address, or "" if it is not one.
func (m members) link(name string) string {
	text := m.text(name)
	if oauth.CheckWebURI(name, text) != nil {
		return ""
	}
	return text
}

// Check fills in the defaults of m (RFC 7591 §2). It returns an invalid_redirect_uri or invalid_client_metadata refusal
// if m is not acceptable. issuer is this server's own URL; redirect URIs must not point to it.
//
//   - grant_types defaults to authorization_code and refresh_token; unsupported types are removed.
//   - response_types defaults to code; it is empty if no grant type uses redirects.
//   - token_endpoint_auth_method defaults to none for a client with a redirect to the user's own computer, because it
//     cannot keep a secret, and otherwise to client_secret_basic.
//   - application_type is native if a redirect URI is on loopback or has a private-use scheme, otherwise web, whatever
//     the client sent.
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
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"token_endpoint_auth_method %.40q is not supported: use one of %s", m.Method, oauth.Listed(Methods))
	}
	if m.Method == oauth.MethodNone {
		for _, g := range m.GrantTypes {
			if rule, _ := g.Rule(); rule.Authenticated {
				return oauth.Refuse(oauth.InvalidClientMetadata,
					"%s needs a client that can authenticate: token_endpoint_auth_method cannot be none", g)
			}
		}
	}
	if err := CheckKeys(m); err != nil {
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
		if _, ok := g.Rule(); ok && !slices.Contains(known, g) {
			known = append(known, g)
		}
	}
	m.GrantTypes = known
	redirected := oauth.AnyGrant(known, func(rule oauth.GrantRule) bool { return rule.Redirect })
	switch {
	case !oauth.AnyGrant(known, func(rule oauth.GrantRule) bool { return !rule.Follows }):
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"grant_types contains none with which a client can start: register authorization_code")
	case !redirected && len(m.RedirectURIs) > 0:
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"redirect_uris need the authorization_code grant, which grant_types does not contain")
	case !redirected:
		m.ResponseTypes = nil
	case len(m.ResponseTypes) > 0 && !slices.Contains(m.ResponseTypes, "code"):
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"response_types must contain code, because this server supports no other")
	default:
		m.ResponseTypes = []string{"code"}
	}
	return nil
}

func checkRedirectURIs(m *oauth.Metadata, issuer string) error {
	switch redirected := oauth.AnyGrant(m.GrantTypes, func(rule oauth.GrantRule) bool { return rule.Redirect }); {
	case redirected && len(m.RedirectURIs) == 0:
		return oauth.Refuse(oauth.InvalidRedirectURI,
			"redirect_uris is missing: the authorization_code grant needs at least one")
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
			return oauth.Refuse(oauth.InvalidRedirectURI,
				"redirect URI %.200q points to this authorization server itself", uri)
		}
	}
	return nil
}

// origin returns the origin of an absolute URL in canonical form: in lower case, with the port, without the dot at the
// end of a host (RFC 6454 §4).
func origin(u *url.URL) string {
	return u.Scheme + "://" + strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")) + ":" + portOf(u)
}

// portOf returns the port of an http or https URL, also if it is left out.
func portOf(u *url.URL) string {
	switch port := u.Port(); {
	case port != "":
		return port
	case u.Scheme == "https":
		return "443"
	case u.Scheme == "http":
		return "80"
	}
	return ""
}

// checkWords checks the members that are shown to people, and scope.
func checkWords(m *oauth.Metadata) error {
	for _, text := range []struct{ name, value string }{
		{"client_name", m.Name}, {"software_id", m.SoftwareID}, {"software_version", m.SoftwareVersion},
	} {
		if err := checkText(text.name, text.value); err != nil {
			return err
		}
	}
	for _, uri := range []struct{ name, value string }{
		{"client_uri", m.URI}, {"logo_uri", m.LogoURI}, {"tos_uri", m.TOSURI}, {"policy_uri", m.PolicyURI},
	} {
		if err := oauth.CheckWebURI(uri.name, uri.value); err != nil {
			return err
		}
	}
	long := func(c string) bool { return len(c) > maxText }
	if len(m.Contacts) > maxContacts || slices.ContainsFunc(m.Contacts, long) {
		return oauth.Refuse(oauth.InvalidClientMetadata, "contacts must have at most %d entries of at most %d bytes",
			maxContacts, maxText)
	}
	if _, err := scope.Parse(m.Scope); err != nil {
		return oauth.Refuse(oauth.InvalidClientMetadata,
			"scope must be a list of scope names separated by spaces (RFC 6749 section 3.3)")
	}
	return nil
}

func checkText(name, value string) error {
	if len(value) > maxText || !utf8.ValidString(value) {
		return oauth.Refuse(oauth.InvalidClientMetadata, "%s must be UTF-8 of at most %d bytes", name, maxText)
	}
	return nil
}

// signs reports whether the client may authenticate with private_key_jwt.
func signs(m *oauth.Metadata) bool {
	return m.Method == oauth.MethodPrivateKeyJWT || slices.Contains(m.Methods, oauth.MethodPrivateKeyJWT)
}
