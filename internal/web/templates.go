package web

import (
	"embed"
	"html/template"
	"io/fs"
)

//go:embed templates/*.html
var layout embed.FS

// Templates are the templates of the pages of one flow. They share what the layout
// defines: "top" begins a page, "mark" is our sign, "client" and "resource" name what
// has a Name.
type Templates struct{ all *template.Template }

// ParseTemplates returns the templates in the files templates/*.html, by the names of
// the files. It panics if one does not parse, because they are part of the program.
// A template sees the path of the issuer as .Base and the view as .View; names that
// strangers chose go through display, and are set apart by <bdi> from the text around
// them. It may call the functions in more.
func ParseTemplates(files fs.FS, more ...template.FuncMap) Templates {
	all := template.New("").Option("missingkey=error").Funcs(template.FuncMap{"asset": assetPath, "display": DisplayName})
	for _, functions := range more {
		all.Funcs(functions)
	}
	template.Must(all.ParseFS(layout, "templates/layout.html"))
	return Templates{template.Must(all.ParseFS(files, "templates/*.html"))}
}

// Page returns the page that the template with the given name makes of a view, with
// status 200.
func (t Templates) Page(name string, view any) Page {
	return Page{template: t.all.Lookup(name), view: view}
}

var failures = ParseTemplates(layout)

// Failure says why there is nothing else to show. It links nowhere.
type Failure struct {
	Status    int    // of the response
	Title     string // a few words
	Message   string // what is wrong, a sentence; may quote the request
	Hint      string // what the person can do, "" for nothing
	Code      string // OAuth error code, for developers
	RequestID string // by which the log knows the request
}

// Page returns the page, with Status.
func (v Failure) Page() Page {
	page := failures.Page("failure.html", v)
	page.status = v.Status
	return page
}
