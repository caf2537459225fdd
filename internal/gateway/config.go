package gateway

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/valkey"
	"github.com/cardea-auth/cardea/scope"
)

// Config is the configuration of a gateway. Load makes it; what Load returns is complete and checked.
type Config struct {
	Issuer  string             // identifier of the authorization server
	Public  string             // origin under which clients reach the gateway
	Listen  string             // address
	Client  *guard.Credentials // asks the issuer at each request whether the token is still active; nil: does not ask
	Origins []string           // of web pages that may call, besides that of Public; "*" is all
	Spool   string             // directory of tool calls that the issuer has not logged yet; "": it logs none
	Limits  *valkey.Limits     // in which the budgets of limits.calls are kept; nil: in this process
	Servers []*Server
	// MetricsListen is the address on which metrics are served; "" is none. The gateway itself does not listen there.
	MetricsListen string

	unwritten bool // files of reviewed tools may be missing
}

// Server is an MCP server behind the gateway.
type Server struct {
	Name     string
	Resource string             // identifier, the aud of its tokens; by default Public and path
	Client   *guard.Credentials // in place of Config.Client
	Scopes   []string           // what clients ask for first; by default all scopes of rules and reviewed tools

	Upstream *url.URL
	Headers  http.Header // which the gateway adds to requests to Upstream
	Identity bool        // whether Upstream gets a signed statement of who calls
	SSE      bool        // whether Upstream has the HTTP+SSE transport of MCP 2024-11-05

	Command  []string // in place of Upstream: a program that speaks MCP over its standard input and output
	Env      []string // of the program, besides what it needs to run
	Sessions int      // how many of it may run
	Each     int      // how many of them for one person
	Idle     time.Duration

	Rules   []*Rule
	Default bool // whether what no rule names is open to every valid token

	reviewed *reviewed  // the tools that are open at all; nil: rules alone decide
	seen     *sightings // of a server with reviewed tools; the gateway sets it

	Calls guard.Rate // of each person with each client; zero: without limit
	Body  int64      // bytes a message may have

	line int
}

const (
	defaultListen = "127.0.0.1:8090"
	defaultSpool  = "cardea-gateway-spool" // beside the configuration
	defaultBody   = 4 << 20
	maxBody       = 64 << 20
)

// Load reads the configuration in a YAML file. The error is one sentence that names the file and the line, and for an
// unknown key the nearest known one. It never quotes a secret.
func Load(path string) (*Config, error) { return load(path, &Config{Listen: defaultListen}) }

// Find returns the server with a resource identifier in the YAML file, or nil if there is none. Unlike Load, it takes a
// file of reviewed tools that is missing, because its caller writes it.
func Find(path, resource string) (*Server, error) {
	c, err := load(path, &Config{Listen: defaultListen, unwritten: true})
	if err != nil {
		return nil, err
	}
	for _, s := range c.Servers {
		if strings.TrimSuffix(s.Resource, "/") == strings.TrimSuffix(resource, "/") {
			return s, nil
		}
	}
	return nil, nil
}

func load(path string, c *Config) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("the gateway's configuration cannot be read: %w; check the path and its permissions",
			err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		if text, found := strings.CutPrefix(err.Error(), "yaml: line "); found {
			return nil, fmt.Errorf("%s:%s", path, text) // line and fault, as below
		}
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if document.Kind == 0 {
		return nil, fmt.Errorf("%s: it is empty; it needs issuer, public and servers", path)
	}
	err = c.read(document.Content[0], filepath.Dir(path))
	var fault *faultError
	if errors.As(err, &fault) {
		return nil, fmt.Errorf("%s:%d: %s", path, fault.line, fault.text)
	}
	return c, err
}

func (c *Config) read(n *yaml.Node, folder string) error {
	var servers *yaml.Node
	var shared string
	err := members(n, "", fields{
		"issuer":         text(&c.Issuer),
		"public":         text(&c.Public),
		"listen":         text(&c.Listen),
		"metrics_listen": text(&c.MetricsListen),
		"client":         credentials(&c.Client, folder),
		"origins":        texts(&c.Origins),
		"spool":          text(&c.Spool),
		"valkey":         text(&shared),
		"valkey_file":    file(&shared, folder),
		"servers":        func(n *yaml.Node, _ string) error { servers = n; return nil },
	})
	if err != nil {
		return err
	}
	switch {
	case c.Issuer == "":
		return faultAt(n, "issuer is missing: the URL of the authorization server")
	case c.Public == "":
		return faultAt(n,
			"public is missing: the URL under which clients reach the gateway, such as https://gw.example.com")
	case !isOrigin(c.Public):
		return faultAt(n,
			"public is %q; it must be an https origin without a path, or http on a loopback host", c.Public)
	}
	for _, origin := range c.Origins {
		if u, err := url.Parse(origin); origin != "*" &&
			(err != nil || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			return faultAt(n, "origins has %q; write an origin as browsers do, such as https://app.example.com", origin)
		}
	}
	if shared != "" {
		if c.Limits, err = valkey.New(valkey.Config{URL: shared}); err != nil {
			return faultAt(n, "valkey must be a URL, such as redis://127.0.0.1:6379")
		}
	}
	switch {
	case c.Spool == "none":
		c.Spool = ""
	case c.Spool == "":
		c.Spool = filepath.Join(folder, defaultSpool)
	case !filepath.IsAbs(c.Spool):
		c.Spool = filepath.Join(folder, c.Spool)
	}
	if servers == nil || servers.Kind != yaml.SequenceNode || len(servers.Content) == 0 {
		return faultAt(n, "servers is missing: a list with a name, path, upstream and rules for each MCP server")
	}
	for i, item := range servers.Content {
		s, err := c.readServer(item, fmt.Sprintf("servers[%d].", i), folder)
		if err != nil {
			return err
		}
		for _, other := range c.Servers {
			switch {
			case s.Name == other.Name:
				return faultAt(item, "the name %s is taken by the server of line %d", s.Name, other.line)
			case strings.TrimSuffix(s.Resource, "/") == strings.TrimSuffix(other.Resource, "/"):
				return faultAt(item, "%s has the resource %s, as %s of line %d has",
					s.Name, s.Resource, other.Name, other.line)
			}
		}
		c.Servers = append(c.Servers, s)
	}
	return nil
}

func (c *Config) readServer(n *yaml.Node, path, folder string) (*Server, error) {
	s := &Server{Client: c.Client, Headers: http.Header{}, Body: defaultBody, line: n.Line}
	s.Sessions, s.Each, s.Idle = 20, 5, 15*time.Minute
	var place, upstream, transport, identity, reviewedOf string
	var rules *yaml.Node
	err := members(n, path, fields{
		"name":             text(&s.Name),
		"path":             text(&place),
		"resource":         text(&s.Resource),
		"client":           credentials(&s.Client, folder),
		"scopes":           texts(&s.Scopes),
		"upstream":         text(&upstream),
		"upstream_headers": secrets(s.Headers, folder),
		"identity":         oneOf(&identity, "none", "jwt"),
		"default":          func(n *yaml.Node, key string) error { return allowOrDeny(&s.Default, n, key) },
		"rules":            func(n *yaml.Node, _ string) error { rules = n; return nil },
		"reviewed":         readReviewed(&s.reviewed, &reviewedOf, folder, c.unwritten),
		"limits": func(n *yaml.Node, key string) error {
			return members(n, key+".", fields{"calls": callRate(&s.Calls), "body": size(&s.Body)})
		},
		"transport":           oneOf(&transport, "http", "sse"),
		"command":             texts(&s.Command),
		"env":                 variables(&s.Env, folder),
		"sessions":            number(&s.Sessions),
		"sessions_per_person": number(&s.Each),
		"idle":                duration(&s.Idle),
	})
	if err != nil {
		return nil, err
	}
	if err := s.place(n, c.Public, place); err != nil {
		return nil, err
	}
	if s.Name == "" {
		return nil, faultAt(n, "%sname is missing; it names the server in logs", path)
	}
	if err := s.checkReviewed(n, path, reviewedOf); err != nil {
		return nil, err
	}
	s.SSE, s.Identity = transport == "sse", identity == "jwt"
	if err := s.reach(n, path, upstream); err != nil {
		return nil, err
	}
	if rules != nil {
		if s.Rules, err = readRules(rules, path+"rules"); err != nil {
			return nil, err
		}
	}
	if len(s.Rules) == 0 && !s.Default && s.reviewed == nil {
		return nil, faultAt(n,
			"%srules is missing: without a rule, and without default: allow, every call is refused", path)
	}
	known := s.known()
	if s.reviewed != nil { // a review may have taken away the last tool that needs a scope
		s.Scopes = slices.DeleteFunc(s.Scopes, func(name string) bool { return !known.Covers(name) })
	}
	for _, name := range s.Scopes {
		if !known.Covers(name) {
			return nil, faultAt(n, "%sscopes has %s, which no rule needs", path, name)
		}
	}
	_, err = s.guard(c, nil, guard.Events{})
	if err != nil {
		return nil, faultAt(n, "%s", strings.TrimPrefix(err.Error(), "guard: "))
	}
	return s, nil
}

// reach makes Upstream, or checks Command.
func (s *Server) reach(n *yaml.Node, path, upstream string) (err error) {
	switch {
	case s.Command != nil && upstream != "":
		return faultAt(n, "%supstream and %[1]scommand are both there; keep one", path)
	case s.Command != nil && (len(s.Command) == 0 || s.Command[0] == ""):
		return faultAt(n,
			"%scommand must be a program with its arguments, as [npx, -y, server-filesystem, /data]", path)
	case s.Command != nil && s.Identity:
		return faultAt(n, "%sidentity: a command has no headers to read it from; leave it out", path)
	case s.Command != nil && s.SSE:
		return faultAt(n, "%stransport: a command has none; leave it out", path)
	case s.Command != nil && len(s.Headers) > 0:
		return faultAt(n, "%supstream_headers: a command has no headers; use env", path)
	case s.Command != nil:
		return nil
	case s.Env != nil:
		return faultAt(n, "%senv is for servers with a command", path)
	case upstream == "":
		return faultAt(n, "%supstream is missing: the URL of the MCP server; or command, to run one", path)
	}
	s.Upstream, err = url.Parse(upstream)
	switch {
	case err != nil || s.Upstream.Host == "" || s.Upstream.Scheme != "http" && s.Upstream.Scheme != "https":
		return faultAt(n, "%supstream must be an http or https URL", path)
	case s.Upstream.User != nil || s.Upstream.Fragment != "":
		return faultAt(n, "%supstream has a user or a fragment; write credentials under upstream_headers", path)
	}
	return nil
}

// place makes Resource, of which path is the path, or the other way about.
func (s *Server) place(n *yaml.Node, public, path string) error {
	switch {
	case path == "" && s.Resource == "":
		return faultAt(n, "the server has no path; clients use public and path")
	case path != "" && (path[0] != '/' || strings.ContainsAny(path, "?#%\\;") || unclean(path)):
		return faultAt(n, "path is %q; it must begin with a slash, without empty segments, dots, %% or ?", path)
	case strings.HasPrefix(path, "/.well-known") || path == "/healthz" || path == "/readyz":
		return faultAt(n, "path is %s, which the gateway itself answers; choose another", path)
	case s.Resource == "":
		s.Resource = public + strings.TrimSuffix(path, "/")
	case path != "" && strings.TrimSuffix(s.path(), "/") != strings.TrimSuffix(path, "/"):
		return faultAt(n,
			"path is %s, but resource has the path %s; leave path out, or make them equal", path, s.path())
	}
	return nil
}

// Target returns where the gateway sends what it lets through, for people.
func (s *Server) Target() string {
	if s.Command != nil {
		return s.Command[0]
	}
	return s.Upstream.Redacted()
}

// path returns the path of Resource.
func (s *Server) path() string {
	u, err := url.Parse(s.Resource)
	if err != nil {
		return ""
	}
	return u.EscapedPath()
}

// known returns all scopes that rules and reviewed tools need.
func (s *Server) known() (known scope.Set) {
	for _, rule := range s.Rules {
		known = known.Union(rule.scopes)
	}
	if s.reviewed != nil {
		for _, name := range slices.Sorted(maps.Keys(s.reviewed.tools)) {
			known = known.Union(s.reviewed.tools[name].scopes)
		}
	}
	return known
}

// isOrigin reports whether s is https, or http on a loopback host, with nothing after the host.
func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && u.Scheme+"://"+u.Host == s &&
		(u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && addr.IsLoopback()
}

// unclean reports whether a path has an empty segment, other than the last, or one of dots.
func unclean(path string) bool {
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")[1:]
	return slices.ContainsFunc(segments, func(s string) bool { return s == "" || s == "." || s == ".." })
}
