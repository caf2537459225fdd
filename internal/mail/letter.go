package mail

import (
	"cmp"
	"embed"
	"fmt"
	html "html/template"
	"strings"
	text "text/template"
)

//go:embed templates
var files embed.FS

var (
	asText = text.Must(text.ParseFS(files, "templates/letter.txt"))
	asHTML = html.Must(html.ParseFS(files, "templates/letter.html"))
)

// render returns the text and the HTML of a letter from the site of o.
func (l *Letter) render(o Options) (plain, page string, err error) {
	view := struct {
		*Letter
		Site, Color string
	}{l, o.Site, cmp.Or(o.Color, "#0b6b60")}
	var p, h strings.Builder
	if err := asText.Execute(&p, view); err != nil {
		return "", "", fmt.Errorf("mail: text: %w", err)
	}
	if err := asHTML.Execute(&h, view); err != nil {
		return "", "", fmt.Errorf("mail: HTML: %w", err)
	}
	return p.String(), h.String(), nil
}
