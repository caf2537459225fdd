package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	strict "github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/scope"
)

// Reviewed are the tools of a server as an operator has reviewed them. A file has them, which cardea resource add and
// cardea resource review write, so that the gateway needs to ask nobody.
type Reviewed struct {
	Resource string         `json:"resource"` // identifier
	Tools    []ReviewedTool `json:"tools"`
}

// ReviewedTool is one of them.
type ReviewedTool struct {
	Name   string   `json:"name"`
	Hash   string   `json:"hash"`   // guard.Definition.Hash
	Scopes []string `json:"scopes"` // that a call needs, if no rule says something else
}

// maxReviewed is how long the file may be, in bytes.
const maxReviewed = 4 << 20

// reviewed is that file in memory.
type reviewed struct {
	path  string
	text  string
	tools map[string]reviewedTool
}

type reviewedTool struct {
	hash   string
	scopes scope.Set
}

// readReviewed reads the file of reviewed tools, whose path is relative to folder, and which may be missing. The key
// resource of the server is checked later.
func readReviewed(to **reviewed, named *string, folder string, missing bool) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		path, err := pathIn(folder, n, key)
		if err != nil {
			return err
		}
		text, err := readFile(path)
		if missing && errors.Is(err, os.ErrNotExist) {
			*to = &reviewed{path: path}
			return nil
		}
		if err != nil {
			return faultAt(n, "%s: %v; cardea resource review writes it", key, err)
		}
		var file Reviewed
		if err := strict.Unmarshal(text, &file, strict.RejectUnknownMembers(true)); err != nil ||
			len(text) > maxReviewed {
			return faultAt(n, "%s: %s is not a list of reviewed tools; cardea resource review writes it", key, path)
		}
		r := &reviewed{path: path, text: string(text), tools: map[string]reviewedTool{}}
		for _, t := range file.Tools {
			if _, twice := r.tools[t.Name]; t.Name == "" || twice || !strings.HasPrefix(t.Hash, "sha256:") {
				return faultAt(n, "%s: %s has a tool without a name or a hash, or one twice", key, path)
			}
			for _, name := range t.Scopes {
				if !scope.Valid(name) {
					return faultAt(n, "%s: %s: %q is not a scope name", key, path, name)
				}
			}
			r.tools[t.Name] = reviewedTool{t.Hash, scope.Of(t.Scopes...)}
		}
		*to, *named = r, file.Resource
		return nil
	}
}

// Files returns the files that the configuration consists of besides its own: a change of one of them changes the
// rules.
func (c *Config) Files() (paths []string) {
	for _, s := range c.Servers {
		if s.reviewed != nil {
			paths = append(paths, s.reviewed.path)
		}
	}
	return paths
}

// ReviewedFile returns the path of the file of reviewed tools, "" if the server has none.
func (s *Server) ReviewedFile() string {
	if s.reviewed == nil {
		return ""
	}
	return s.reviewed.path
}

// ReviewedTools returns how many tools the file has.
func (s *Server) ReviewedTools() int {
	if s.reviewed == nil {
		return 0
	}
	return len(s.reviewed.tools)
}

// sightings are the tools of a server that were seen with another definition than the reviewed one. They stay closed
// until the server gets another file of reviewed tools, also if the old definition comes back.
type sightings struct {
	of  string // the text of that file
	log *slog.Logger

	mu     sync.Mutex
	wrong  map[string]string             // hash by name
	report func(tool, difference string) // tells the issuer
}

// maxSightings is how many of them are remembered. A server that lists more has no open tools.
const maxSightings = 4096

// sightingsOf returns what was seen of s, those of an earlier table if the file is the same.
func (g *Gateway) sightingsOf(s *Server, earlier *table) *sightings {
	if earlier != nil {
		for _, rt := range earlier.routes {
			if rt.Resource == s.Resource && rt.seen != nil && rt.seen.of == s.reviewed.text {
				return rt.seen
			}
		}
	}
	return &sightings{of: s.reviewed.text, log: g.log.With("server", s.Name), wrong: map[string]string{}}
}

// tell makes report what tells the issuer of a sighting.
func (s *sightings) tell(report func(tool, difference string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report = report
}

// see notes how the server lists a tool.
func (s *Server) see(item []byte) {
	if s.reviewed == nil || s.seen == nil {
		return
	}
	tool, err := guard.ParseDefinition(item)
	if err != nil {
		tool.Hash = "unreadable"
		var named struct{ Name string }
		if json.Unmarshal(item, &named) != nil || named.Name == "" {
			return // without a name it is not shown
		}
		tool.Name = named.Name
	}
	known, isReviewed := s.reviewed.tools[tool.Name]
	if isReviewed && known.hash == tool.Hash {
		return
	}
	s.seen.mu.Lock()
	before, was := s.seen.wrong[tool.Name]
	if was || len(s.seen.wrong) < maxSightings {
		s.seen.wrong[tool.Name] = tool.Hash
	}
	report := s.seen.report
	s.seen.mu.Unlock()
	if before == tool.Hash {
		return
	}
	difference := "is new"
	if isReviewed {
		difference = "has changed since it was reviewed"
	}
	s.seen.log.Warn("gateway: a tool "+difference+"; it is closed until cardea resource review accepts it",
		"tool", short(tool.Name), "hash", tool.Hash)
	if report != nil {
		report(tool.Name, "it "+difference)
	}
}

// surveyEvery is how often the gateway itself looks at tools.
const surveyEvery = time.Hour

// survey looks at the tools of all servers with reviewed ones, again and again until ctx ends.
func (g *Gateway) survey(ctx context.Context) {
	again := time.NewTicker(surveyEvery)
	defer again.Stop()
	for ctx.Err() == nil {
		t := g.table.Load()
		for _, rt := range t.routes {
			if rt.reviewed == nil {
				continue
			}
			items, err := g.list(ctx, rt.Server)
			for _, item := range items {
				rt.see(item)
			}
			if err != nil && ctx.Err() == nil {
				g.log.WarnContext(ctx, "gateway: the tools of the server cannot be looked at; what has changed is "+
					"found when a client lists them", "server", rt.Name, "error", err)
			}
		}
		select {
		case <-again.C:
		case <-t.ended:
		case <-g.quit:
			return
		case <-ctx.Done():
		}
	}
}

// unreviewed returns why the tool is closed although rules may name it, or "".
func (s *Server) unreviewed(tool string) string {
	if s.reviewed == nil {
		return ""
	}
	if _, known := s.reviewed.tools[tool]; !known {
		return "There is no such tool, or it is new, and closed until an operator has reviewed it."
	}
	if s.seen == nil {
		return ""
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if _, wrong := s.seen.wrong[tool]; wrong || len(s.seen.wrong) >= maxSightings {
		return "The tool has changed since an operator reviewed it, and is closed until it is reviewed again."
	}
	return ""
}

// checkReviewed returns a fault if the file of reviewed tools is that of another server.
func (s *Server) checkReviewed(n *yaml.Node, path, resource string) error {
	if s.reviewed != nil && s.reviewed.tools != nil &&
		strings.TrimSuffix(resource, "/") != strings.TrimSuffix(s.Resource, "/") {
		return faultAt(n, "%sreviewed: the file has the tools of %s, and not of %s", path, resource, s.Resource)
	}
	return nil
}

// MarshalReviewed returns the text of the file that the key reviewed names.
func MarshalReviewed(r Reviewed) ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return append(text, '\n'), nil
}
