package upstream

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Config describes a provider: an entry of login.providers.
type Config struct {
	ID           string
	Preset       string // one of Presets
	Name         string // on the sign-in page; "": that of the preset
	Issuer       string // for github, the origin of its pages
	ClientID     string
	ClientSecret string
	// Domains are those of the verified addresses with which people may sign in, in their ASCII form; none: any
	// address, or none at all.
	Domains []string
	// Create makes an account at the first sign-in.
	Create bool
	// Link is LinkNever or LinkVerified.
	Link string
	// GroupsClaim names the claim with the person's groups there, and GroupMap says to which group here each of them
	// belongs. Groups that are not in GroupMap stay as they are.
	GroupsClaim string
	GroupMap    map[string]string
	// CheckAtRefresh asks the provider about the person whenever an agent refreshes, and OfflineGrace is how long
	// agents go on after the last answer if it cannot be asked.
	CheckAtRefresh bool
	OfflineGrace   time.Duration
}

// The values of Config.Link.
const (
	LinkNever    = "never"          // an account is joined only by a person who is signed in to it
	LinkVerified = "verified_email" // or if the address is verified both here and there
)

// DefaultOfflineGrace is the default of Config.OfflineGrace.
const DefaultOfflineGrace = 24 * time.Hour

// preset is what is known of a kind of provider.
type preset struct {
	name   string
	issuer string // the one that nearly everybody uses; "": it must be configured
	// offline are the parameters that ask for a refresh token, if it is not the scope offline_access.
	offline url.Values
	again   string // prompt that makes the provider ask who the person is
	like    string // what its issuers look like; "": like any URL
}

var presets = map[string]preset{
	"google": {name: "Google", issuer: "https://accounts.google.com", again: "select_account",
		offline: url.Values{"access_type": {"offline"}, "prompt": {"consent"}}},
	"microsoft": {name: "Microsoft", issuer: "https://login.microsoftonline.com/common/v2.0", again: "login",
		like: "https://login.microsoftonline.com/TENANT/v2.0"},
	"okta":     {name: "Okta", again: "login", like: "https://ORG.okta.com or https://ORG.okta.com/oauth2/default"},
	"auth0":    {name: "Auth0", again: "login", like: "https://TENANT.auth0.com/"},
	"keycloak": {name: "Keycloak", again: "login", like: "https://HOST/realms/REALM"},
	"gitlab": {name: "GitLab", issuer: "https://gitlab.com", again: "login", offline: url.Values{},
		like: "https://gitlab.example.com"},
	"github": {name: "GitHub", issuer: "https://github.com", again: "select_account",
		like: "https://github.com, or the origin of your GitHub Enterprise"},
	"oidc": {again: "login"},
}

// Presets are the kinds of providers.
var Presets = slices.Sorted(maps.Keys(presets))

var id = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Settle fills in what the preset implies and puts domains and issuer into their exact form. It returns an error that
// begins with the name of the key that is wrong.
func (c *Config) Settle() error {
	known, ok := presets[c.Preset]
	switch {
	case c.ID == "":
		return errors.New("id: it is missing; write a short name like google")
	case !id.MatchString(c.ID):
		return fmt.Errorf("id: %.40q is not a short name; use small letters, digits and hyphens", c.ID)
	case c.Preset == "":
		return fmt.Errorf("preset: it is missing; use one of %s", strings.Join(Presets, ", "))
	case !ok:
		return fmt.Errorf("preset: %.40q is unknown; use one of %s", c.Preset, strings.Join(Presets, ", "))
	case c.Issuer == "" && known.issuer == "":
		return fmt.Errorf("issuer: it is missing, and %s has none of its own; write it like https://id.example.com",
			c.Preset)
	case c.ClientID == "":
		return errors.New("client_id: it is missing; the provider shows it where this server is registered")
	case c.Preset == "github" && c.ClientSecret == "":
		return errors.New("client_secret: it is missing, and github demands one; " +
			"set client_secret or client_secret_file")
	case c.Preset == "github" && c.GroupsClaim != "":
		return errors.New("groups_claim: github says nothing of groups; remove it")
	}
	if c.Issuer == "" {
		c.Issuer = known.issuer
	}
	if err := CheckURL(c.Issuer); err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	switch c.Preset {
	case "auth0": // its issuers end in a slash, and people leave it out
		c.Issuer = strings.TrimSuffix(c.Issuer, "/") + "/"
	case "github":
		c.Issuer = strings.TrimSuffix(c.Issuer, "/")
	}
	for i, domain := range c.Domains {
		ascii, err := idna.Lookup.ToASCII(strings.TrimPrefix(domain, "@"))
		if err != nil || !strings.Contains(ascii, ".") || strings.ContainsAny(ascii, "@* /") {
			return fmt.Errorf("domains: %.60q is not a domain; write it like example.com", domain)
		}
		c.Domains[i] = ascii
	}
	switch c.Link {
	case "":
		c.Link = LinkNever
	case LinkNever, LinkVerified:
	default:
		return fmt.Errorf("link: %.40q is unknown; use %s or %s", c.Link, LinkNever, LinkVerified)
	}
	switch {
	case len(c.GroupMap) > 0 && c.GroupsClaim == "":
		return errors.New("group_map: it needs groups_claim, the name of the claim with the groups")
	case c.GroupsClaim != "" && len(c.GroupMap) == 0:
		return errors.New("groups_claim: it needs group_map, which says to which group here each of them belongs")
	}
	return nil
}

// CheckURL returns an error unless text is an https URL without query and fragment, or an http URL of this computer.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("%.200q is not a URL; write it like https://id.example.com", text)
	case u.User != nil:
		return errors.New("the URL must not contain a user name or password")
	case u.Fragment != "" || u.RawQuery != "":
		return errors.New("the URL must not have a query or fragment")
	case oauth.IsSecure(u):
		return nil
	}
	return fmt.Errorf("%.200q must be https (http is allowed only for this computer)", text)
}
