package web

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"strings"
)

//go:embed templates/*.html
var layout embed.FS

// Templates are the templates of the pages of one flow. They can use the templates of the layout: "top" begins a page,
// "mark" is the logo, and "client" and "resource" show the Name of their argument. "your-name" and "new-password" are
// fields of a form, and "authenticator" shows how an app is set up.
type Templates struct{ all *template.Template }

// ParseTemplates returns the templates in the files templates/*.html, by file name. It panics if one does not parse,
// because they are part of the program. A template gets the path of the issuer as .Base and the view as .View. It must
// pass names that strangers chose through display, and isolate them from the surrounding text with <bdi>. It may call
// the functions in more.
func ParseTemplates(files fs.FS, more ...template.FuncMap) Templates {
	all := template.New("").Option("missingkey=error").
		Funcs(template.FuncMap{"asset": assetPath, "display": DisplayName})
	for _, functions := range more {
		all.Funcs(functions)
	}
	template.Must(all.ParseFS(layout, "templates/layout.html"))
	return Templates{template.Must(all.ParseFS(files, "templates/*.html"))}
}

// Part returns a part of a page: the template with the given name and view, for a template that shows it as it is. base
// is the path of the issuer.
func (t Templates) Part(name, base string, view any) (template.HTML, error) {
	var text strings.Builder
	if err := t.all.ExecuteTemplate(&text, name, shown{base, ours, view}); err != nil {
		return "", fmt.Errorf("web: part of a page: %w", err)
	}
	return template.HTML(text.String()), nil // #nosec G203 -- the template has escaped it
}

// Page returns a page of the template with the given name and view, with status 200.
func (t Templates) Page(name string, view any) Page {
	return Page{template: t.all.Lookup(name), view: view}
}

var failures = ParseTemplates(layout)

// Failure is an error page. It has no links.
type Failure struct {
	Status    int    // of the response
	Title     string // a few words
	Message   string // what is wrong, as a sentence; may quote the request
	Hint      string // what the person can do; may be ""
	Code      string // OAuth error code, for developers
	RequestID string // of the request, as in the log
}

// Page returns the page, with Status.
func (v Failure) Page() Page {
	page := failures.Page("failure.html", v)
	page.status = v.Status
	return page
}
