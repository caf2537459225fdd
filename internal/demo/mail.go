package demo

import (
	"context"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// inbox keeps the mails of the demo, which go nowhere else, and shows them on a page.
type inbox struct {
	log *slog.Logger

	mu    sync.Mutex
	mails []letter // the newest first
}

// letter is a mail that arrived.
type letter struct {
	To, Subject string
	Lines       []string
	At          string
}

// maxMails is how many mails are kept.
const maxMails = 50

// deliver keeps a mail and logs it. It never fails.
func (b *inbox) deliver(_ context.Context, to, subject, text, _ string) error {
	b.log.Info("mail", "to", to, "subject", subject, "text", text)
	l := letter{To: to, Subject: subject, Lines: strings.Split(strings.TrimSpace(text), "\n"),
		At: time.Now().Format(time.TimeOnly)} //nolint:forbidigo // for people to read
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = append([]letter{l}, b.mails...)
	b.mails = b.mails[:min(len(b.mails), maxMails)]
	return nil
}

var inboxPage = template.Must(template.New("inbox").Funcs(template.FuncMap{
	"link": func(line string) bool {
		return strings.HasPrefix(line, "http://") || strings.HasPrefix(line, "https://")
	},
}).Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Mail of the demo</title>
</head>
<body>
<main>
<h1>Mail of the demo</h1>
<p>What the server sends arrives here, and nowhere else. Load the page again for newer mail.</p>
{{range .}}<article>
<h2>{{.Subject}}</h2>
<p>To {{.To}}, {{.At}}</p>
<p>{{range .Lines}}{{if link .}}<a href="{{.}}">{{.}}</a>{{else}}{{.}}{{end}}<br>
{{end}}</p>
</article>
{{else}}<p>There is none yet.</p>
{{end}}</main>
</body>
</html>
`))

// ServeHTTP shows the mails to browsers on this computer only, because they have links with which one signs in.
func (b *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	named := r.Host
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		named = name
	}
	if err != nil || !oauth.IsLoopback(host) || !oauth.IsLoopback(strings.Trim(named, "[]")) {
		http.NotFound(w, r)
		return
	}
	b.mu.Lock()
	mails := b.mails
	b.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	_ = inboxPage.Execute(w, mails) // an error means that the browser has disconnected
}
