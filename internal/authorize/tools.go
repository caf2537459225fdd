package authorize

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// The bounds of what the page says of tools.
const (
	maxToolsOfScope = 20
	maxToolsOfPage  = 200
	maxToolText     = 160 // characters
)

// Opened are the tools of the MCP server that a scope opens.
type Opened struct {
	Tools []ToolLine
	More  int // that are not among Tools, because there are too many
}

// Count returns how many tools the scope opens.
func (o Opened) Count() int { return len(o.Tools) + o.More }

// ToolLine is a tool as an operator reviewed it.
type ToolLine struct {
	Name    string
	Title   string // "" if it has none
	Text    string // the beginning of its description
	Changed bool   // the server has another definition now
	Partly  bool   // it needs other scopes, too
}

// opened returns the tools of r that each of the scopes opens. Tools are known only of an MCP server that an operator
// added with them.
func (e *Endpoint) opened(req *http.Request, r *oauth.Resource, scopes scope.Set) (map[string]Opened, error) {
	opened := map[string]Opened{}
	err := e.DB.View(req.Context(), func(tx *store.Tx) error {
		tools, err := tx.ToolScopes(r.ID)
		if err != nil {
			return err
		}
		shown := scope.Set{}
		lines := 0
		for _, name := range scopes {
			opens := scope.Of(name)
			var o Opened
			for _, t := range tools {
				switch {
				case !opens.CoversAny(t.Scopes...):
				case len(o.Tools) == maxToolsOfScope || lines == maxToolsOfPage:
					o.More++
				default:
					o.Tools = append(o.Tools, ToolLine{Name: t.Name, Changed: t.SeenHash != t.Hash,
						Partly: !opens.CoversAll(t.Scopes...)})
					shown = append(shown, t.Name)
					lines++
				}
			}
			opened[name] = o
		}
		slices.Sort(shown)
		definitions, err := tx.Definitions(r.ID, slices.Compact(shown)...)
		for _, o := range opened {
			for i := range o.Tools {
				o.Tools[i].describe(definitions[o.Tools[i].Name])
			}
		}
		return err
	})
	return opened, err
}

// describe sets what a definition says of the tool in words.
func (l *ToolLine) describe(definition string) {
	var said map[string]any // because a struct would also take Title for title
	if json.Unmarshal([]byte(definition), &said) != nil {
		return
	}
	annotations, _ := said["annotations"].(map[string]any)
	title, _ := said["title"].(string)
	hint, _ := annotations["title"].(string)
	text, _ := said["description"].(string)
	l.Title = audit.Clean(cmp.Or(title, hint))
	if l.Title == l.Name {
		l.Title = ""
	}
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n\n")
	text = audit.Plain(text)
	if runes := []rune(text); len(runes) > maxToolText {
		text = string(runes[:maxToolText-1]) + "…"
	}
	l.Text = text
}
