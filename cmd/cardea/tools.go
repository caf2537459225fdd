package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/doctor"
	"github.com/cardea-auth/cardea/internal/gateway"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// looking has the flags for how the tools of an MCP server are listed.
type looking struct {
	Gateway  string `placeholder:"FILE" help:"Configuration of the gateway in front of the server. What is behind the gateway is looked at, and the reviewed tools are written beside the file, where the gateway reads them."`
	Token    bool   `name:"token-stdin" help:"Read an access token for the MCP server from standard input."`
	Login    bool   `help:"Sign in with a browser to get one."`
	ClientID string `name:"client-id" placeholder:"ID" help:"Sign in as this client, which is registered with a redirect URI http://127.0.0.1/callback and any port."`
}

// behind returns the server with a resource identifier behind the gateway, nil if there is none, or no gateway.
func (l looking) behind(identifier string) (*gateway.Server, error) {
	if l.Gateway == "" {
		return nil, nil
	}
	s, err := gateway.Find(l.Gateway, identifier)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return s, err
}

// look lists the tools: of the server behind the gateway, or of the one at address if behind is nil.
func (l looking) look(ctx context.Context, sh *shell, address string, behind *gateway.Server) (*doctor.Sight, error) {
	header := http.Header{}
	if l.Token {
		token, err := sh.readLine("Access token for the MCP server")
		if err != nil {
			return nil, err
		}
		header.Set("Authorization", "Bearer "+token)
	}
	if behind != nil {
		return lookBehind(ctx, behind, header)
	}
	seen, err := doctor.Look(ctx, doctor.LookOptions{Options: doctor.Options{
		URL: address, Login: l.Login, ClientID: l.ClientID, Now: time.Now, Version: thisBuild().Version,
		Open: sh.openBrowser, Progress: func(step string) { fmt.Fprintln(sh.errs, "cardea:", plain(step)) },
	}, Header: header})
	if errors.Is(err, doctor.ErrWantsToken) {
		return nil, advise("%v; sign in with --login, or give one with --token-stdin; a server that is protected by "+
			"this installation must be registered first, with: cardea resource create --identifier %s", err, address)
	}
	return seen, err
}

// lookBehind lists the tools of a server behind the gateway. header is sent besides what the gateway sends.
func lookBehind(ctx context.Context, s *gateway.Server, header http.Header) (*doctor.Sight, error) {
	o := doctor.LookOptions{Options: doctor.Options{Now: time.Now, Version: thisBuild().Version,
		Transport: gateway.Transport()}, Header: header}
	switch {
	case s.SSE:
		return nil, advise("the server behind the gateway has the transport of MCP 2024-11-05, whose tools cannot be " +
			"listed yet; write its rules by hand")
	case s.Command != nil:
		said := &lastWords{}
		ask, stop, err := gateway.Pipe(s, slog.New(said))
		if err != nil {
			return nil, advise("the program cannot run (%v); check the command", err)
		}
		o.Ask = ask
		seen, err := doctor.Look(ctx, o)
		if stop(); err != nil { // what it has said is read then
			if text := said.text(); text != "" {
				return nil, advise("%v; its last words are %s", err, text)
			}
		}
		return seen, err
	default:
		o.URL = s.Upstream.String()
		for name, values := range s.Headers {
			if header.Get(name) == "" {
				header[name] = values
			}
		}
	}
	return doctor.Look(ctx, o)
}

// lastWords is a slog.Handler that keeps what a program behind the gateway last said on standard error.
type lastWords struct {
	slog.Handler // nil
	mu           sync.Mutex
	words        string
}

// Enabled implements slog.Handler.
func (*lastWords) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (w *lastWords) WithAttrs([]slog.Attr) slog.Handler { return w }

// Handle implements slog.Handler.
func (w *lastWords) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if text := strings.TrimSpace(a.Value.String()); a.Key == gateway.Says && text != "" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.words = text
		}
		return true
	})
	return nil
}

// text returns the words, quoted, "" if there were none.
func (w *lastWords) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.words == "" {
		return ""
	}
	return strconv.Quote(w.words)
}

type resourceAdd struct {
	URL       string   `arg:"" name:"url" help:"URL of the MCP server, as its clients know it. It is the aud of its tokens."`
	Command   []string `arg:"" optional:"" name:"command" help:"After --: the command that starts the server behind the gateway, on standard input and output."`
	Upstream  string   `placeholder:"URL" help:"URL of the server behind the gateway."`
	Name      *string  `placeholder:"NAME" help:"Name shown to people; the one that the server gives itself if none is given."`
	ToolScope []string `sep:"none" placeholder:"TOOL=SCOPE" help:"Scope that a tool needs, in place of the proposed one. Repeatable."`
	ToolRisk  []string `sep:"none" placeholder:"TOOL=RISK" help:"What a tool does, in place of what is proposed: read, change or act (in the person's name). Repeatable."`
	DryRun    bool     `help:"Only list the tools, with what is proposed."`
	looking
	resourceTerms
	output
}

// Help returns what the help shows below the usage.
func (*resourceAdd) Help() string {
	return "It lists the tools of the MCP server, registers it with scopes for reading, changing and acting, " +
		"and freezes " +
		"the tools as they are. What a tool says of itself only proposes. With --gateway, the gateway opens exactly " +
		"these tools, each as it was frozen; cardea resource review accepts what is new."
}

func (c *resourceAdd) Run(ctx context.Context, sh *shell) error {
	switch {
	case c.Upstream != "" && len(c.Command) > 0:
		return usageError("--upstream and a command are both there; keep one")
	case c.Gateway == "" && (c.Upstream != "" || len(c.Command) > 0):
		return usageError("what is behind a gateway needs the gateway's configuration; name the file with --gateway")
	}
	identifier, err := oauth.CheckIdentifier(c.URL)
	if refusal, ok := oauth.AsRefusal(err); ok {
		return usageError(refusal.Description)
	}
	behind, err := c.behind(identifier)
	if err != nil {
		return err
	}
	isNew := behind == nil && c.Gateway != ""
	if isNew {
		if behind, err = c.server(identifier); err != nil {
			return err
		}
	}
	seen, err := c.look(ctx, sh, identifier, behind)
	if err != nil {
		return err
	}
	if c.DryRun {
		tools, err := admin.ProposedTools(seen.Tools)
		if err != nil {
			return err
		}
		return c.print(sh, tools, func(t *table) {
			t.Row("TOOL", "RISK", "DEFINITION")
			for _, tool := range tools {
				t.Row(tool.Name, string(tool.Risk), brief(tool.Hash))
			}
		})
	}
	n := admin.NewServer{NewResource: admin.NewResource{Identifier: identifier, ResourceTerms: c.terms()},
		Tools: seen.Tools}
	if name := audit.Clean(seen.Name); c.Name == nil && name != "" {
		n.Name = &name
	}
	for _, text := range c.ToolRisk {
		if n.ToolRisks == nil {
			n.ToolRisks = map[string]oauth.Risk{}
		}
		name, risk, _ := strings.Cut(text, "=")
		n.ToolRisks[name] = oauth.Risk(risk)
	}
	for _, text := range c.ToolScope {
		if n.ToolScopes == nil {
			n.ToolScopes = map[string][]string{}
		}
		name, scope, _ := strings.Cut(text, "=")
		n.ToolScopes[name] = append(n.ToolScopes[name], named([]string{scope})...)
	}
	return sh.reach(ctx, c.open(sh), func(t adminapi.Target) error {
		view, err := adminapi.AddResource.Call(ctx, t, adminapi.Creation[admin.NewServer]{Body: n})
		if err != nil {
			return err
		}
		if c.Gateway != "" {
			if err := c.write(sh, t, view, behind, isNew); err != nil {
				return err
			}
		}
		if closed := view.Unreviewed(); len(closed) > 0 {
			fmt.Fprintf(sh.errs, "cardea: not open until cardea resource review accepts them: %s\n",
				plain(strings.Join(closed, ", ")))
		}
		return c.print(sh, view, func(t *table) { drawServer(view, t) })
	})
}

// server returns the server that the flags describe, which the gateway does not have yet.
func (c *resourceAdd) server(identifier string) (*gateway.Server, error) {
	name, err := gateway.FreeName(c.Gateway, entryName(identifier))
	if err != nil {
		return nil, err
	}
	s := &gateway.Server{Name: name, Resource: identifier, Command: c.Command}
	switch {
	case len(c.Command) > 0:
		return s, nil
	case c.Upstream == "":
		return nil, usageError(c.Gateway + " has no server with the resource " + identifier +
			"; say what is behind the gateway, with --upstream or a command after --")
	}
	u, err := url.Parse(c.Upstream)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, usageError("--upstream must be an http or https URL without a user")
	}
	s.Upstream = u
	return s, nil
}

// entryName returns the name of a server in the gateway's configuration: the last segment of its path, or its host.
func entryName(identifier string) string {
	u, err := url.Parse(identifier)
	if err != nil {
		return "server"
	}
	segments := strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' })
	if len(segments) > 1 && segments[len(segments)-1] == "mcp" {
		segments = segments[:len(segments)-1]
	}
	if len(segments) == 0 {
		return u.Hostname()
	}
	return segments[len(segments)-1]
}

// write writes the reviewed tools of view for the gateway, and the server into its configuration if it is new there.
func (l looking) write(sh *shell, t adminapi.Target, view admin.Server, s *gateway.Server, isNew bool) error {
	path := s.ReviewedFile()
	folder := filepath.Dir(l.Gateway)
	beside := gateway.FreeFile(folder, s.Name, view.Resource.Identifier)
	if path == "" {
		path = filepath.Join(folder, beside)
	}
	file := gateway.Reviewed{Resource: view.Resource.Identifier, Tools: []gateway.ReviewedTool{}}
	for _, tool := range view.Tools {
		if tool.Hash != "" {
			file.Tools = append(file.Tools, gateway.ReviewedTool{Name: tool.Name, Hash: tool.Hash, Scopes: tool.Scopes})
		}
	}
	if err := gateway.WriteReviewed(path, file); err != nil {
		return err
	}
	var err error
	switch {
	case isNew:
		e := gateway.Entry{Name: s.Name, Command: s.Command, Scopes: firstScopes(view), Reviewed: beside}
		if s.Upstream != nil {
			e.Upstream = s.Upstream.String()
		}
		u, parseErr := url.Parse(view.Resource.Identifier)
		if parseErr != nil {
			return parseErr
		}
		e.Path = cmp.Or(u.EscapedPath(), "/")
		issuer := ""
		if t.Operations != nil {
			issuer = t.Operations.Issuer
		} else {
			issuer = t.Remote.Issuer
		}
		err = gateway.AddServer(l.Gateway, issuer, u.Scheme+"://"+u.Host, e)
	case s.ReviewedFile() == "":
		err = gateway.AddReviewed(l.Gateway, s.Name, beside)
	}
	if errors.Is(err, gateway.ErrLayout) {
		return advise("the reviewed tools are in %s, but %s cannot be changed by a program (%v); write under the "+
			"server %s: reviewed: %s", path, l.Gateway, err, s.Name, beside)
	}
	if err == nil {
		fmt.Fprintf(sh.errs, "cardea: %s has the tools that the gateway opens\n", plain(path))
	}
	return err
}

// firstScopes returns the scopes that clients of v ask for first, as far as a reviewed tool needs them.
func firstScopes(v admin.Server) (names []string) {
	for _, s := range v.Resource.Scopes {
		if s.Default && slices.ContainsFunc(v.Tools, func(t admin.Tool) bool {
			return t.Hash != "" && slices.Contains(t.Scopes, s.Name)
		}) {
			names = append(names, s.Name)
		}
	}
	return names
}

// brief returns the beginning of a hash, which is enough to tell definitions apart.
func brief(hash string) string {
	_, digits, _ := strings.Cut(hash, ":")
	return dash(digits[:min(len(digits), 12)])
}

func drawServer(v admin.Server, t *table) {
	t.Row("TOOL", "STATE", "RISK", "SCOPES", "DEFINITION")
	for _, tool := range v.Tools {
		risk := string(tool.Risk)
		if tool.RiskNow != "" && tool.RiskNow != tool.Risk {
			risk += " → " + string(tool.RiskNow)
		}
		t.Row(tool.Name, string(tool.State), risk, strings.Join(tool.Scopes, " "),
			brief(cmp.Or(tool.SeenHash, tool.Hash)))
		if tool.Resembles != "" {
			t.Row(fmt.Sprintf("  %+q looks like %+q", tool.Name, tool.Resembles), "", "", "", "")
		}
		if tool.State == admin.ToolNew {
			t.Row("  "+string(tool.Seen), "", "", "", "")
		}
		for _, d := range tool.Differences {
			t.Row("  "+d.Path, "", "", cmp.Or(d.Before, "(not there)")+" → "+cmp.Or(d.After, "(not there)"), "")
		}
	}
}

type resourceTools struct {
	Resource string `arg:"" help:"Id or identifier."`
	output
}

func (c *resourceTools) Run(ctx context.Context, sh *shell) error {
	return ask(ctx, sh, c.output, drawServer, adminapi.ListTools, adminapi.ByID{ID: c.Resource})
}

type resourceReview struct {
	Resource  string   `arg:"" help:"Id or identifier."`
	Accept    []string `sep:"none" placeholder:"TOOL[=HASH]" help:"Accept a tool as it was when it was last looked at, or that it is gone; HASH is the beginning of the definition that you read. Repeatable."`
	AcceptAll bool     `help:"Accept all tools as they were when they were last looked at."`
	ToolScope []string `sep:"none" placeholder:"TOOL=SCOPE" help:"Scope that an accepted tool needs from now on. Repeatable."`
	ToolRisk  []string `sep:"none" placeholder:"TOOL=RISK" help:"What an accepted tool does: read, change or act. Repeatable."`
	looking
	output
}

// Help returns what the help shows below the usage.
func (*resourceReview) Help() string {
	return "Without --accept, it looks at the tools of the MCP server, and shows which are new, changed or gone; " +
		"the exit " +
		"code is 1 if some are. With --accept, it does not look again: what you accept is what you have read."
}

func (c *resourceReview) Run(ctx context.Context, sh *shell) error {
	return sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		known, err := adminapi.ListTools.Call(ctx, t, adminapi.ByID{ID: c.Resource})
		if err != nil {
			return err
		}
		behind, err := c.behind(known.Resource.Identifier)
		if err != nil {
			return err
		}
		if c.Gateway != "" && behind == nil {
			return usageError(c.Gateway + " has no server with the resource " + known.Resource.Identifier)
		}
		var review admin.Review
		if c.AcceptAll || len(c.Accept) > 0 {
			review.Accept, err = c.accepted(known)
		} else {
			var seen *doctor.Sight
			if seen, err = c.look(ctx, sh, known.Resource.Identifier, behind); err == nil {
				review.Seen = seen.Tools
			}
		}
		if err != nil {
			return err
		}
		view, err := adminapi.ReviewResource.Call(ctx, t,
			adminapi.Change[admin.Review]{ID: known.Resource.ID, Body: review})
		if err == nil && c.Gateway != "" {
			err = c.write(sh, t, view, behind, false)
		}
		if err == nil {
			err = c.print(sh, view, func(t *table) { drawServer(view, t) })
		}
		if err == nil && len(view.Unreviewed()) > 0 {
			err = errVerdict
		}
		return err
	})
}

// accepted returns what the flags accept of the tools that were seen last.
func (c *resourceReview) accepted(known admin.Server) (all []admin.AcceptedTool, err error) {
	names := map[string]string{} // the beginning of the hash, by name
	for _, text := range c.Accept {
		name, hash, _ := strings.Cut(text, "=")
		names[name] = hash
	}
	if c.AcceptAll {
		for _, name := range known.Unreviewed() {
			names[name] = cmp.Or(names[name], "")
		}
	}
	for _, tool := range known.Tools {
		hash, wanted := names[tool.Name]
		if !wanted {
			continue
		}
		delete(names, tool.Name)
		if hash != "" && !strings.HasPrefix(strings.TrimPrefix(tool.SeenHash, "sha256:"),
			strings.TrimPrefix(hash, "sha256:")) {
			return nil, advise("%s was seen with the definition %s, and not with %s; read it again with: cardea "+
				"resource review %s", tool.Name, brief(tool.SeenHash), hash, c.Resource)
		}
		a := admin.AcceptedTool{Name: tool.Name, Hash: tool.SeenHash}
		for _, text := range c.ToolRisk {
			if name, risk, _ := strings.Cut(text, "="); name == tool.Name {
				a.Risk = oauth.Risk(risk)
			}
		}
		for _, text := range c.ToolScope {
			if name, scope, _ := strings.Cut(text, "="); name == tool.Name {
				a.Scopes = append(a.Scopes, named([]string{scope})...)
			}
		}
		all = append(all, a)
	}
	for name := range names {
		return nil, advise("the server has no tool %s; see its tools with: cardea resource tools %s", name, c.Resource)
	}
	slices.SortFunc(all, func(a, b admin.AcceptedTool) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}
