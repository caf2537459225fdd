package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/doctor"
	"github.com/cardea-auth/cardea/internal/store"
)

// doctorCommand diagnoses an MCP server from outside.
type doctorCommand struct {
	URL      []string `arg:"" name:"url" help:"The URL that people type into their client."`
	Register bool     `help:"Also register a test client at the authorization server, and delete it again."`
	Login    bool     `help:"Also sign in with a browser, and call a tool with the token. It implies --register, unless --client-id is given."`
	ClientID string   `name:"client-id" placeholder:"ID" help:"Use this client, which is registered with a redirect URI http://127.0.0.1/callback and any port."`
	Secret   bool     `name:"client-secret" help:"That client has a secret: read it from standard input."`
	Scope    []string `placeholder:"NAME" help:"Scope to ask for with --login; repeatable. By default those that the MCP server names."`
	output
}

// Help returns what the help shows below the usage.
func (*doctorCommand) Help() string {
	return "It works with servers that do not use Cardea too. It sends no token of yours, and registers nothing " +
		"unless asked. The exit code is 1 if a check fails. docs/guides/doctor.md explains each finding."
}

func (c *doctorCommand) Run(ctx context.Context, sh *shell) error {
	options := doctor.Options{
		URL: strings.Join(c.URL, " "), Register: c.Register, Login: c.Login, ClientID: c.ClientID, Scopes: c.Scope,
		Now: time.Now, Version: thisBuild().Version,
		Progress: func(step string) { fmt.Fprintln(sh.errs, "cardea:", plain(step)) },
		Open:     sh.openBrowser, Explain: sh.explainToken,
	}
	if c.Secret {
		if c.ClientID == "" {
			return usageError("--client-secret belongs to a client; name it with --client-id")
		}
		secret, err := sh.readLine("Client secret")
		if err != nil {
			return err
		}
		options.ClientSecret = secret
	}
	report, err := doctor.Run(ctx, options)
	if address := (*doctor.AddressError)(nil); errors.As(err, &address) {
		return usageError(address.Reason)
	}
	if err != nil {
		return err
	}
	if c.Output == "json" {
		err = printJSON(sh.out, report)
	} else {
		_, err = fmt.Fprint(sh.out, sheet(report, styleOf(sh.out, sh.environ)))
	}
	if err == nil && report.Verdict == doctor.Broken {
		err = errVerdict
	}
	return err
}

// openBrowser opens a URL with the program that $BROWSER names, or with that of the system. A missing browser is not an
// error, because the URL is printed too.
func (sh *shell) openBrowser(ctx context.Context, address string) error {
	program := strings.Fields(sh.variable("BROWSER"))
	switch {
	case len(program) > 0:
	case runtime.GOOS == "darwin":
		program = []string{"open"}
	case runtime.GOOS == "windows":
		program = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default:
		program = []string{"xdg-open"}
	}
	// #nosec G204 -- it is the person's own browser, and it may stay open after the command
	command := exec.CommandContext(context.WithoutCancel(ctx), program[0], append(program[1:], address)...)
	if err := command.Start(); err != nil {
		fmt.Fprintln(sh.errs, "cardea: no browser opens here; open the URL above yourself, on this computer")
		return nil
	}
	go func() { _ = command.Wait() }()
	return nil
}

// explainToken says what Cardea itself thinks of a token that an MCP server refused, or what it refused the client last
// if token is "": if the configured installation, or the one that --server names, is the issuer. Otherwise it returns
// "".
func (sh *shell) explainToken(ctx context.Context, issuer, clientID, token string) (said string, good bool) {
	if sh.server() == "" {
		c, err := sh.load(nil)
		if err != nil || c.Issuer != issuer || missingDatabase(c.Config) != "" {
			return "", false
		}
	} else if sh.server() != issuer {
		return "", false
	}
	if token != "" {
		found, err := inspect(ctx, sh, token)
		switch {
		case err != nil:
			return "", false
		case found.Accepted:
			return "the token is good, so the MCP server checks something else", true
		}
		return found.Reason, false
	}
	err := sh.reach(ctx, sh.operate, func(t adminapi.Target) error {
		events, err := lastEvents(ctx, t, store.EventFilter{ClientID: clientID, Outcome: audit.Refused}, 1)
		for _, e := range events {
			said = e.Tell()
		}
		return err
	})
	if err != nil {
		return "", false
	}
	return said, false
}

// sheet returns a report as a page that one would paste into a bug report.
func sheet(r *doctor.Report, style style) string {
	s := &page{width: 100, style: style}
	if style.Width > 0 {
		s.width = min(max(style.Width, 60), 120)
	}
	s.head(r)
	for _, status := range []doctor.Status{doctor.Fail, doctor.Warn} {
		for _, c := range r.Checks {
			if c.Status == status {
				s.finding(c)
			}
		}
	}
	s.verdicts(r)
	for _, part := range []struct {
		title string
		shown func(doctor.Check) bool
	}{
		{"Worth knowing", func(c doctor.Check) bool { return c.Status == doctor.OK && c.Expected != "" }},
		{"In order", func(c doctor.Check) bool { return c.Status == doctor.OK && c.Expected == "" }},
	} {
		s.list(part.title, r.Checks, part.shown)
	}
	s.skipped(r.Checks)
	if len(r.Notes) > 0 {
		s.title("Note")
		for _, note := range r.Notes {
			s.line("  ", "  ", plain(note))
		}
	}
	return s.text.String()
}

// page is a text that fits a width.
type page struct {
	text  strings.Builder
	width int
	style style
}

func (s *page) head(r *doctor.Report) {
	color := map[doctor.Verdict]string{doctor.Fine: "32", doctor.Warnings: "33", doctor.Broken: "31"}[r.Verdict]
	s.line("", "", plain(r.URL))
	s.line("", "", s.paint(color, r.Headline()))
	if worst, found := r.Worst(); found {
		s.line("", "", "Begin with "+worst.ID+": "+plain(worst.Fix)+".")
	}
}

func (s *page) finding(c doctor.Check) {
	word, breaks, color := "FAIL", "Keeps out", "31"
	if c.Status == doctor.Warn {
		word, breaks, color = "WARN", "Concerns", "33"
	}
	s.text.WriteString("\n")
	s.line("", "", s.paint(color, word)+"  "+c.ID)
	for _, row := range [][2]string{{"Found", c.Found}, {"Expected", c.Expected}, {"Fix", c.Fix},
		{"By", c.Party.Words()}, {breaks, c.Named()}, {"Source", c.Source}} {
		if row[1] != "" {
			s.line("  "+fmt.Sprintf("%-10s ", row[0]), strings.Repeat(" ", 13), plain(row[1]))
		}
	}
}

func (s *page) verdicts(r *doctor.Report) {
	s.title("Clients")
	for _, row := range []struct {
		name   string
		status doctor.Status
	}{{"cannot connect", doctor.Fail}, {"with a detour", doctor.Warn}, {"connect", doctor.OK}} {
		if list := r.With(row.status); len(list) > 0 {
			s.line(fmt.Sprintf("  %-15s ", row.name), strings.Repeat(" ", 18), strings.Join(list, ", "))
		}
	}
}

func (s *page) list(title string, checks []doctor.Check, shown func(doctor.Check) bool) {
	checks = slices.DeleteFunc(slices.Clone(checks), func(c doctor.Check) bool { return !shown(c) })
	if len(checks) == 0 {
		return
	}
	s.title(title)
	for _, c := range checks {
		s.line(fmt.Sprintf("  %-26s ", c.ID), strings.Repeat(" ", 29), plain(c.Found))
	}
}

// skipped says what was not looked at, for each reason.
func (s *page) skipped(checks []doctor.Check) {
	var whys []string
	ids := map[string][]string{}
	for _, c := range checks {
		if c.Status == doctor.Skip {
			if !slices.Contains(whys, c.Found) {
				whys = append(whys, c.Found)
			}
			ids[c.Found] = append(ids[c.Found], c.ID)
		}
	}
	if len(whys) > 0 {
		s.title("Not looked at")
	}
	for _, why := range whys {
		s.line("  ", "    ", plain(strings.Join(ids[why], ", ")+": "+why))
	}
}

func (s *page) title(text string) { s.text.WriteString("\n" + text + "\n") }

func (s *page) paint(color, text string) string {
	if s.style.Colors {
		return "\x1b[" + color + "m" + text + "\x1b[0m"
	}
	return text
}

// line writes a text after a label, folded at spaces; the lines after the first begin with indent.
func (s *page) line(label, indent, text string) {
	at := label
	for i, word := range strings.Fields(text) {
		if i > 0 && columns(at)+1+columns(word) > s.width {
			s.text.WriteString(strings.TrimRight(at, " ") + "\n")
			at = indent
		} else if i > 0 {
			at += " "
		}
		at += word
	}
	s.text.WriteString(strings.TrimRight(at, " ") + "\n")
}
