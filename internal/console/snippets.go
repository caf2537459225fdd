package console

import (
	"cmp"
	"embed"
	"encoding/json"
	"net"
	"net/url"
	"strconv"
	"strings"
	"text/template"

	"github.com/cardea-auth/cardea/examples/node"
	"github.com/cardea-auth/cardea/examples/python"
	"github.com/cardea-auth/cardea/internal/admin"
)

//go:embed snippets/*.tmpl
var snippetFiles embed.FS

// snippets are programs to copy, in which what an operator chose is quoted as a string of the language: a string of
// JSON is one of Go, JavaScript and Python too.
var snippets = template.Must(template.New("").Funcs(template.FuncMap{
	"q":  quoted,
	"sh": word,
	"args": func(words []string) string {
		all := make([]string, len(words))
		for i, word := range words {
			all[i] = quoted(word)
		}
		return strings.Join(all, ", ")
	},
}).ParseFS(snippetFiles, "snippets/*.tmpl"))

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return strconv.Quote(s) // cannot happen: a string always marshals
	}
	return string(b)
}

// guide is how one MCP server is protected and connected to.
type guide struct {
	Go, Node, Python string // a server that refuses a request (401) and a call (403), and writes a line for each call
	PythonProtect    string // cardea.py, which Python needs beside it
	Metadata         string // the document that the server publishes (RFC 9728 §2)
	MetadataURL      string
	Challenge        string // WWW-Authenticate of its 401
	Connect          []connection
}

// connection is how one program connects to the server.
type connection struct{ Name, How, Command string }

// guideFor returns the guide of an MCP server at this issuer. alg is the algorithm that signs where the resource names
// none.
func guideFor(r admin.Resource, issuer, alg string) (*guide, error) {
	u, err := url.Parse(r.Identifier)
	if err != nil {
		return nil, err
	}
	path := u.Path
	if path == "" {
		path = "/"
	}
	origin := u.Scheme + "://" + u.Host
	if r.SigningAlg != "" {
		alg = r.SigningAlg
	}
	all, first := []string{}, []string{}
	for _, s := range r.Scopes {
		all = append(all, s.Name)
		if s.Default {
			first = append(first, s.Name)
		}
	}
	host, port := listens(u)
	facts := map[string]any{
		"Host": host, "Port": port, "Listen": net.JoinHostPort(host, port), "NodeBody": nodeBody, "Issuer": issuer,
		"Identifier": r.Identifier, "Name": r.Name, "Path": path, "Origin": origin, "Alg": alg,
		"JWKS": issuer + "/.well-known/jwks", "All": all, "First": first, "Slug": slug(r.Name),
	}
	g := &guide{PythonProtect: python.Protect,
		MetadataURL: origin + "/.well-known/oauth-protected-resource" + strings.TrimSuffix(path, "/")}
	for name, to := range map[string]*string{"go.tmpl": &g.Go, "node.tmpl": &g.Node, "python.tmpl": &g.Python} {
		var text strings.Builder
		if err := snippets.ExecuteTemplate(&text, name, facts); err != nil {
			return nil, err
		}
		*to = text.String()
	}
	document, err := json.MarshalIndent(struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
		Methods  []string `json:"bearer_methods_supported"`
	}{r.Identifier, []string{issuer}, first, []string{"header"}}, "", "  ")
	if err != nil {
		return nil, err
	}
	g.Metadata = string(document)
	g.Challenge = `WWW-Authenticate: Bearer resource_metadata="` + g.MetadataURL + `"`
	if len(first) > 0 {
		g.Challenge += `, scope="` + strings.Join(first, " ") + `"`
	}
	var text strings.Builder
	if err := snippets.ExecuteTemplate(&text, "connect.tmpl", facts); err != nil {
		return nil, err
	}
	// Of each program there are its name, the command, and perhaps what to do then, a line each.
	for _, lines := range strings.Split(strings.TrimSpace(text.String()), "\n\n") {
		line := append(strings.Split(lines, "\n"), "")
		g.Connect = append(g.Connect, connection{Name: line[0], Command: line[1], How: line[2]})
	}
	return g, nil
}

// nodeBody is what a server in Node has below its settings, as in the example.
var nodeBody = func() string {
	_, body, found := strings.Cut(node.Server, "// Where clients look")
	body, _, ends := strings.Cut(body, "app.listen(")
	if !found || !ends {
		panic("console: server.mjs of the example in Node has another layout") // a test sees it
	}
	return "// Where clients look" + body
}()

// listens returns where the server at u listens: there, if it is on this machine, or else behind a proxy.
func listens(u *url.URL) (host, port string) {
	if u.Scheme == "http" {
		return u.Hostname(), cmp.Or(u.Port(), "80")
	}
	return "127.0.0.1", "8090"
}

// slug returns a name that needs no quotation marks in a shell or a settings file.
func slug(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if s := strings.TrimSuffix(b.String(), "-"); s != "" {
		return s
	}
	return "mcp-server"
}

// word returns s as one word of a POSIX shell.
func word(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
