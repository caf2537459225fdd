package client

import (
	"bytes"
	_ "embed"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/oauth"
)

//go:embed profiles.yaml
var profilesYAML []byte

// Profile is an entry of profiles.yaml: additional redirect URIs that certain clients may use.
type Profile struct {
	Name          string    `yaml:"name" json:"name"`
	ClientIDs     []string  `yaml:"client_ids" json:"client_ids,omitempty"`
	RedirectHosts []string  `yaml:"redirect_hosts" json:"redirect_hosts,omitempty"`
	Also          []string  `yaml:"also" json:"also,omitempty"`
	SegmentBelow  bool      `yaml:"segment_below" json:"segment_below,omitempty"`
	Reason        string    `yaml:"reason" json:"reason"`
	LookAgain     time.Time `yaml:"look_again" json:"look_again"`
}

var shipped = readProfiles(profilesYAML)

// Profiles are all profiles, in the order in which they are tried.
var Profiles = shipped.Profiles

// Schemes are the private-use schemes without a dot that a redirect URI may have.
var Schemes = shipped.Schemes

func readProfiles(text []byte) (file struct {
	Profiles []Profile
	Schemes  []string
}) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var read struct {
		Schemes  map[string]string `yaml:"schemes"` // with the programs that use them
		Profiles []Profile         `yaml:"profiles"`
	}
	if err := decoder.Decode(&read); err != nil {
		panic("client: profiles.yaml: " + err.Error()) // the file is embedded in the program
	}
	file.Profiles, file.Schemes = read.Profiles, slices.Sorted(maps.Keys(read.Schemes))
	return file
}

// MatchRedirectURI reports whether codes for the client may be sent to the requested redirect URI. If the URI matches
// by the general rule (oauth.MatchRedirectURI), profile is ""; if it matches by a profile, profile is its name. A URI
// that could no longer be registered does not match, even if it is registered.
func MatchRedirectURI(c *oauth.Client, requested string) (ok bool, profile string) {
	if _, err := oauth.CheckRedirectURI(requested, Schemes); err != nil {
		return false, ""
	}
	if oauth.MatchRedirectURI(c.RedirectURIs, requested) {
		return true, ""
	}
	for _, p := range Profiles {
		if p.appliesTo(c) && p.allows(c.RedirectURIs, requested) {
			return true, p.Name
		}
	}
	return false, ""
}

func (p *Profile) appliesTo(c *oauth.Client) bool {
	return slices.Contains(p.ClientIDs, c.ID) || slices.ContainsFunc(c.RedirectURIs, func(uri string) bool {
		u, err := url.Parse(uri)
		return err == nil && u.Scheme == "https" && slices.Contains(p.RedirectHosts, u.Host)
	})
}

// lastSegment is a path segment without characters that a program could interpret.
var lastSegment = regexp.MustCompile(`/[A-Za-z0-9_-]{1,128}$`)

func (p *Profile) allows(registered []string, requested string) bool {
	if oauth.MatchRedirectURI(p.Also, requested) {
		return true
	}
	above := lastSegment.ReplaceAllString(requested, "")
	return p.SegmentBelow && above != requested && strings.HasPrefix(above, "http://") &&
		oauth.MatchRedirectURI(registered, above)
}
