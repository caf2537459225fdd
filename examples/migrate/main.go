// Command migrate writes a file for cardea apply from what a hosted authorization server exports of its MCP servers and
// of their clients:
//
//	migrate servers.json clients.json … > cardea-objects.yaml
//
// Each file is an answer of the hosted product's API: an object with the list resources, the list clients, or both.
// Migrate reports on standard error what it leaves out. The files have no secrets, so each client needs a new one.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: migrate FILE… > cardea-objects.yaml")
		os.Exit(2)
	}
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run reads files, and writes what they say to out and what it leaves out to notes. With an error it writes nothing to
// out.
func run(files []string, out, notes io.Writer) error {
	var all export
	var faults []error
	for _, file := range files {
		e, err := read(file)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", file, err))
			continue
		}
		all.Resources = append(all.Resources, e.Resources...)
		all.Clients = append(all.Clients, e.Clients...)
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	made, left, err := all.convert()
	if err != nil {
		return err
	}
	for _, note := range left {
		fmt.Fprintln(notes, "note:", note)
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(made), encoder.Close()); err != nil {
		return err
	}
	_, err = out.Write(text.Bytes())
	return err
}

// export is an answer of the hosted product.
type export struct {
	Resources []server `json:"resources"`
	Clients   []client `json:"clients"`
	Next      string   `json:"next_page_token"`
}

type server struct {
	ID           string  `json:"id"`
	Name         string  `json:"name"`
	URI          string  `json:"resource_uri"`
	Scopes       []scope `json:"scopes"`
	AccessExpiry seconds `json:"access_token_expiry"`
	Refresh      seconds `json:"refresh_token_expiry"`
	NoDCR        bool    `json:"disable_dynamic_client_registration"`
}

type scope struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Enabled     *bool  `json:"enabled"`
}

type client struct {
	ID           string            `json:"client_id"`
	Name         string            `json:"name"`
	Resource     string            `json:"resource_id"`
	Scopes       []string          `json:"scopes"`
	Expiry       seconds           `json:"expiry"`
	RedirectURIs []string          `json:"redirect_uris"`
	Claims       []json.RawMessage `json:"custom_claims"`
	DCR          bool              `json:"is_dcr"`
	CIMD         bool              `json:"is_cimd"`
}

// seconds is a length of time. JSON has it as a number, or as a string of digits.
type seconds int64

// UnmarshalJSON implements json.Unmarshaler.
func (s *seconds) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		return nil
	}
	n, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%s is not a number of seconds", text)
	}
	*s = seconds(n)
	return nil
}

// within returns s as cardea apply reads it, but not more than most; "" for 0.
func (s seconds) within(most time.Duration) string {
	if s == 0 {
		return ""
	}
	return strconv.FormatInt(min(int64(s), int64(most/time.Second)), 10) + "s"
}

// The longest that Cardea lets access tokens and unused grants live.
const (
	longestAccess = 24 * time.Hour
	longestIdle   = 10 * 365 * 24 * time.Hour
)

// read returns what a file says.
func read(file string) (e export, err error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return e, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return e, fmt.Errorf("%s; save the answer of the API as it is", where(text, err))
	}
	if members["resources"] == nil && members["clients"] == nil {
		return e, errors.New("it has neither resources nor clients; save the answer that lists them")
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, errors.New(where(text, err))
	}
	if e.Next != "" {
		return e, errors.New("it is one page of several, because next_page_token is not empty; save the next page, " +
			"too, and remove next_page_token from all of them")
	}
	return e, nil
}

// where says what is wrong in JSON, and in which line if that is known.
func where(text []byte, err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	line := func(offset int64) int { return 1 + bytes.Count(text[:min(offset, int64(len(text)))], []byte("\n")) }
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("line %d: it is not JSON: %s", line(syntax.Offset), syntax)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Sprintf("it is a JSON %s, not an object", kind.Value)
	case errors.As(err, &kind):
		return fmt.Sprintf("line %d: %s is a JSON %s, which is not what the API has there",
			line(kind.Offset), kind.Field, kind.Value)
	}
	return err.Error()
}

// objects is a file for cardea apply.
type objects struct {
	Version   int        `yaml:"version"`
	Resources []resource `yaml:"resources,omitempty"`
	Clients   []agent    `yaml:"clients,omitempty"`
}

type resource struct {
	Identifier string  `yaml:"identifier"`
	Name       string  `yaml:"name,omitempty"`
	AccessTTL  string  `yaml:"access_token_ttl,omitempty"`
	IdleTTL    string  `yaml:"refresh_idle_ttl,omitempty"`
	Shape      string  `yaml:"token_shape"`
	Scopes     []words `yaml:"scopes,omitempty"`
}

type words struct {
	Name        string `yaml:"name"`
	Description string `yaml:"description,omitempty"`
}

type agent struct {
	ID           string   `yaml:"client_id"`
	Name         string   `yaml:"client_name"`
	GrantTypes   []string `yaml:"grant_types,flow"`
	RedirectURIs []string `yaml:"redirect_uris,omitempty"`
	Resources    []string `yaml:"resources"`
	Scope        string   `yaml:"scope,omitempty"`
	AccessTTL    string   `yaml:"access_token_ttl,omitempty"`
}

// convert returns the file, and a sentence for each thing that it does not carry. The error has all faults.
func (e export) convert() (made objects, left []string, err error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	note := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }
	made.Version = 1
	known := map[string]string{} // the identifiers, by the ids of the hosted product
	for _, s := range e.Resources {
		identifier, err := identifierOf(s.URI)
		taken := slices.ContainsFunc(made.Resources, func(r resource) bool { return r.Identifier == identifier })
		switch {
		case err != nil:
			fault("the server %s (%s): resource_uri %w", s.ID, s.Name, err)
			continue
		case taken:
			fault("the server %s (%s): another one has the resource_uri %s; give each file once",
				s.ID, s.Name, identifier)
			continue
		}
		known[s.ID] = identifier
		r := resource{Identifier: identifier, Name: s.Name, AccessTTL: s.AccessExpiry.within(longestAccess),
			IdleTTL: s.Refresh.within(longestIdle), Shape: "lists"}
		if time.Duration(s.AccessExpiry) > longestAccess/time.Second {
			note("access tokens of %s live for 24h, because longer ones cannot be served", identifier)
		}
		if s.NoDCR {
			note("%s turned away clients that register themselves; registration.dcr does so for all servers",
				identifier)
		}
		for _, sc := range s.Scopes {
			if sc.Enabled != nil && !*sc.Enabled {
				note("the scope %s of %s is left out, because it is not enabled", sc.Name, identifier)
				continue
			}
			r.Scopes = append(r.Scopes, words{sc.Name, sc.Description})
		}
		made.Resources = append(made.Resources, r)
	}
	self := 0
	for _, c := range e.Clients {
		if c.DCR || c.CIMD {
			self++
			continue
		}
		identifier, ok := known[c.Resource]
		id := idOf(c.ID)
		switch {
		case c.ID == "":
			fault("a client (%s) has no client_id", c.Name)
			continue
		case !ok:
			fault("the client %s (%s): no file has its server %q; give the file that lists the servers, too",
				c.ID, c.Name, c.Resource)
			continue
		case slices.ContainsFunc(made.Clients, func(a agent) bool { return a.ID == id }):
			fault("the client %s (%s) is there twice; give each file once", c.ID, c.Name)
			continue
		}
		a := agent{ID: id, Name: c.Name, Resources: []string{identifier}, Scope: strings.Join(c.Scopes, " "),
			AccessTTL: c.Expiry.within(longestAccess), GrantTypes: []string{"client_credentials"}}
		if a.Name == "" {
			a.Name = c.ID
		}
		if len(c.RedirectURIs) > 0 {
			a.GrantTypes, a.RedirectURIs = []string{"authorization_code", "refresh_token"}, c.RedirectURIs
		}
		if len(c.Claims) > 0 {
			note("the claims that tokens of %s have in addition are left out", c.ID)
		}
		note("the client %s is now %s; make its secret with: cardea client rotate-secret %s", c.ID, id, id)
		made.Clients = append(made.Clients, a)
	}
	if self > 0 {
		note("clients that registered themselves or have a metadata document come back by themselves; left out: %d",
			self)
	}
	return made, left, errors.Join(faults...)
}

// identifierOf returns the identifier of a resource from its resource_uri.
func identifierOf(uri string) (string, error) {
	u, err := url.Parse(uri)
	switch {
	case uri == "":
		return "", errors.New("is missing; set the server's URL there first, because it is the audience of tokens")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", fmt.Errorf("%q is not the URL of an MCP server; set it there first, because it is the audience of "+
			"tokens", uri)
	}
	return uri, nil
}

var unusual = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// idOf returns the id of a client in Cardea for its id elsewhere.
func idOf(id string) string { return "mcp_" + unusual.ReplaceAllString(id, "-") }
