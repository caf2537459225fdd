package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/console"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// scaleIssuer is the issuer of the large installation, which its records name.
const scaleIssuer = "http://127.0.0.1:8765"

// tooSlow is the time within which every page and every answer of the Admin API must come.
const tooSlow = 100 * time.Millisecond

var errSlow = fmt.Errorf("a page took longer than %s", tooSlow)

// scale prints how long a server with many records takes for each page of the console and each GET of the Admin API.
func scale(ctx context.Context, binary, dir, dsn string, s sizes, turns int) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "cardea-bench-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(temporary) }()
		dir = temporary
	}
	if dsn == "" {
		dsn = "sqlite:" + filepath.Join(dir, "cardea.db")
	}
	db, err := store.Open(ctx, dsn, store.Options{})
	if err != nil {
		return err
	}
	there := false
	if _, err = db.Migrate(ctx); err == nil {
		there, err = has(ctx, db, s)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if !there {
		if err := populate(ctx, dsn, s); err != nil {
			return err
		}
	}
	env := []string{"PATH=" + os.Getenv("PATH")}
	if !strings.HasPrefix(dsn, "sqlite:") { // a file has a key beside it
		env = append(env, "CARDEA_MASTER_KEY="+base64.StdEncoding.EncodeToString(make([]byte, 32)))
	}
	env = append(env, "CARDEA_DATA_DIR="+dir, "CARDEA_DATABASE="+dsn, "CARDEA_ISSUER="+scaleIssuer,
		"CARDEA_LISTEN="+strings.TrimPrefix(scaleIssuer, "http://"), "CARDEA_LIMITS_ENABLED=false")
	v := &visitor{n: &installation{sizes: s, now: time.Now()}, turns: turns}
	if err := v.join(ctx, binary, env); err != nil {
		return err
	}
	server, err := start(ctx, env, filepath.Join(dir, "cardea.log"), strings.TrimPrefix(scaleIssuer, "http://"),
		"/readyz", binary, "serve")
	if err != nil {
		return err
	}
	defer server.stop()
	if err := v.enter(ctx); err != nil {
		return err
	}
	return v.walk(ctx)
}

// visitor is an owner at the console, and a program with API credentials.
type visitor struct {
	n               *installation
	turns           int
	email, password string
	program         party
	token           string // access token of the program
	browser         *http.Client
	rows            []timing
}

// timing is how long one address took, in the turns.
type timing struct {
	address       string
	first, median time.Duration
	bytes         int
}

// join makes an owner and API credentials by command.
func (v *visitor) join(ctx context.Context, binary string, env []string) error {
	v.email, v.password = fmt.Sprintf("owner%d@example.com", time.Now().UnixNano()), "correct horse battery staple"
	create := exec.CommandContext(ctx, binary, "user", "create", "--email", v.email, "--name", "Owner", // #nosec G204
		"--role", "owner", "--password-stdin")
	create.Env, create.Stdin, create.Stderr = env, strings.NewReader(v.password+"\n"), os.Stderr
	if err := create.Run(); err != nil {
		return fmt.Errorf("user create: %w", err)
	}
	return command(ctx, binary, env, &v.program, "client", "create", "--name", "Program", "--grant",
		"client_credentials", "--resource", scaleIssuer+admin.APIPath, "--scope", "cardea:*")
}

// enter signs the owner in, and gets the program a token.
func (v *visitor) enter(ctx context.Context) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	v.browser = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	page, _, err := v.get(ctx, "/login?return=/admin", false)
	if err != nil {
		return err
	}
	form := url.Values{"email": {v.email}, "password": {v.password}}
	for _, input := range inputTag.FindAllString(string(page), -1) {
		if attribute(input, "type") == "hidden" {
			form.Set(attribute(input, "name"), attribute(input, "value"))
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scaleIssuer+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", scaleIssuer)
	resp, err := v.browser.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, _, err := v.get(ctx, strings.TrimPrefix(resp.Header.Get("Location"), scaleIssuer), false); err != nil {
		return err
	}
	if _, _, err := v.get(ctx, "/admin", false); err != nil {
		return fmt.Errorf("after the sign-in: %w", err)
	}
	t, err := redeem(ctx, scaleIssuer, v.program.basic(), url.Values{"grant_type": {"client_credentials"},
		"scope": {"cardea:*"}})
	v.token = t.AccessToken
	return err
}

// get returns the body of a page or, with the token of the program, of an answer of the API.
func (v *visitor) get(ctx context.Context, address string, api bool) (body []byte, took time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scaleIssuer+address, nil)
	if err != nil {
		return nil, 0, err
	}
	if api {
		req.Header.Set("Authorization", "Bearer "+v.token)
	}
	began := time.Now()
	resp, err := v.browser.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	took = time.Since(began)
	to := resp.Header.Get("Location")
	switch {
	case err != nil:
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusSeeOther && !strings.Contains(to, "/login"): // leads to the page above
	default:
		err = fmt.Errorf("GET %s returned %s, to %q: %.300s", address, resp.Status, to, body)
	}
	return body, took, err
}

// measure adds how long an address takes.
func (v *visitor) measure(ctx context.Context, address string, api bool) error {
	var times []time.Duration
	size := 0
	for range v.turns + 1 {
		body, took, err := v.get(ctx, address, api)
		if err != nil {
			return err
		}
		times, size = append(times, took), len(body)
	}
	first := times[0]
	times = slices.Sorted(slices.Values(times[1:]))
	v.rows = append(v.rows, timing{address, first, times[len(times)/2], size})
	return nil
}

// walk measures everything and prints the table, the slowest first.
func (v *visitor) walk(ctx context.Context) error {
	pages, err := v.pages(ctx)
	if err != nil {
		return err
	}
	for _, address := range pages {
		if err := v.measure(ctx, address, false); err != nil {
			return err
		}
	}
	answers, err := v.answers(ctx)
	if err != nil {
		return err
	}
	for _, address := range answers {
		if err := v.measure(ctx, address, true); err != nil {
			return err
		}
	}
	slices.SortStableFunc(v.rows, func(a, b timing) int { return cmp.Compare(b.median, a.median) })
	fmt.Printf("%s; the first request of each address, and the median of %d more, in milliseconds\n\n", v.n.sizes,
		v.turns)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "address\tfirst\tmedian\tKB\t")
	slow := false
	for _, row := range v.rows {
		verdict := ""
		if row.median > tooSlow {
			slow, verdict = true, "SLOW"
		}
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%d\t%s\n", row.address, row.first.Seconds()*1000, row.median.Seconds()*1000,
			row.bytes/1000, verdict)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if slow {
		return errSlow
	}
	return nil
}

// after returns the cursor of the part of a list that begins after a time.
func after(at time.Time) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d,m", at.UnixMicro()))
}

// pages returns the addresses of the console: of each of its routes, and each with what can be asked for there.
func (v *visitor) pages(ctx context.Context) (addresses []string, err error) {
	n := v.n
	person, email, _ := n.person(0)
	busy, _ := n.client(0)
	described, _ := n.client(2)
	other, _ := n.client(4)
	grant, machine := n.id("grt_", 2), n.id("mcp_", 201)
	var keys struct {
		Items []struct{ KID string }
	}
	if err := v.decode(ctx, "/keys", &keys); err != nil {
		return nil, err
	}
	event, err := v.event(ctx, grant)
	if err != nil {
		return nil, err
	}
	deep := "after=" + after(n.now.Add(-year/2))
	ids := map[string]string{ // of the example at a path, by what is before it
		"servers": n.id("res_", 0), "clients": machine, "people": person, "groups": "group-0", "grants": grant,
		"sessions": n.id("ses_", 0), "audit": event, "keys": keys.Items[0].KID, "credentials": v.program.ClientID,
		"invitations": n.id("usr_", n.people), "providers": "none", "passkeys": "none",
	}
	rotated := v.program.ClientID // the machine has no secret
	also := map[string][]string{  // what is asked for at a path besides
		"/admin":         {"range=day", "range=week", "range=month"},
		"/admin/servers": {deep},
		"/admin/clients": {deep, "origin=operator", "origin=registration", "origin=document", "q=claude", "q=a",
			"q=Agent+99", "q=" + busy, "q=a&origin=document", "q=a&origin=operator",
			"origin=operator&" + deep, "origin=document&" + deep},
		"/admin/people":      {deep, "q=ada", "q=a", "q=" + email, "q=grace+hopper"},
		"/admin/groups":      {deep},
		"/admin/groups/{id}": {deep},
		"/admin/grants": {deep, "all=1", "all=1&" + deep, "user=" + person, "user=" + person + "&all=1",
			"user=" + email, "client=" + busy, "client=" + busy + "&" + deep, "client=" + busy + "&all=1",
			"client=" + url.QueryEscape(described), "client=" + other, "resource=" + mcpServer(0),
			"resource=" + mcpServer(1), "resource=" + mcpServer(150), "resource=" + mcpServer(150) + "&all=1",
			"user=" + person + "&client=" + busy,
			"user=" + person + "&resource=" + mcpServer(0), "client=" + busy + "&resource=" + mcpServer(150),
			"client=" + busy + "&resource=" + mcpServer(1)},
		"/admin/sessions": {"user=" + person, "user=" + email,
			"after=" + after(n.now.Add(30*24*time.Hour-time.Duration(n.people/2)*time.Microsecond))},
		"/admin/audit": {deep, "first=1", "first=1&" + deep, "outcome=refused", "outcome=allowed", "action=token.",
			"action=token.request", "action=login", "action=client.update", "action=tool.call", "action=zzz",
			"user=" + person, "user=" + email, "user=nobody", "client=" + busy, "client=" + other,
			"resource=" + mcpServer(0), "resource=" + mcpServer(150), "grant=" + grant, "actor=command:ada",
			"actor=" + busy, "actor=client:" + busy, "actor=user:" + person, "address=192.0.2.1",
			"address=203.0.113.1", "request=" + event, "since=24h", "since=7d",
			"since=90d&until=80d", "outcome=refused&client=" + busy,
			"outcome=refused&user=" + person + "&resource=" + mcpServer(7),
			"outcome=refused&action=tool.", "action=login&outcome=refused", "action=client.update&user=" + person,
			"address=192.0.2.1&outcome=refused&resource=" + mcpServer(0), "client=" + busy + "&address=192.0.2.1",
			"grant=" + grant + "&outcome=refused", "actor=command:ada&since=300d&until=200d"},
		"/admin/clients/waiting": {deep}, "/admin/clients/blocks": {deep},
		"/admin/people/invitations": {"after=" + after(n.now.Add(-time.Hour))},
		"/admin/credentials":        {deep},
	}
	more := map[string][]string{ // other examples at a path
		"/admin/servers/{id}":        {n.id("res_", 1), n.id("res_", 150)},
		"/admin/servers/{id}/delete": {n.id("res_", 1)},
		"/admin/clients/{id}":        {busy, url.PathEscape(described), other, v.program.ClientID},
		"/admin/clients/{id}/delete": {busy}, "/admin/clients/{id}/disable": {busy},
		"/admin/clients/{id}/block": {busy},
		"/admin/people/{id}":        {n.id("usr_", 7)}, "/admin/people/{id}/delete": {n.id("usr_", 7)},
		"/admin/groups/{id}": {"group-7"},
	}
	endpoint := &console.Endpoint{Pages: new(web.Pages), Operations: new(admin.Operations)}
	for _, route := range endpoint.Routes() {
		pattern := route.Path
		if pattern == "/admin/audit/export" || strings.Contains(pattern, "providers/") ||
			strings.Contains(pattern, "passkeys/") { // a file of any size; and what this installation does not have
			continue
		}
		words := strings.Split(pattern, "/")
		i := slices.Index(words, "{id}")
		if i < 0 {
			addresses = append(addresses, pattern)
		} else {
			id := ids[words[i-1]]
			if strings.HasSuffix(pattern, "/rotate-secret") {
				id = rotated
			}
			for _, id := range append([]string{id}, more[pattern]...) {
				if id == "" {
					return nil, fmt.Errorf("there is no example for %s", pattern)
				}
				addresses = append(addresses, strings.Replace(pattern, "{id}", id, 1))
			}
		}
		page := addresses[len(addresses)-1-len(more[pattern])]
		for _, query := range also[pattern] {
			addresses = append(addresses, page+"?"+query)
		}
	}
	return addresses, nil
}

// decode reads an answer of the API.
func (v *visitor) decode(ctx context.Context, path string, into any) error {
	body, _, err := v.get(ctx, "/admin/api/v1"+path, true)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// event returns the id of an event of a grant.
func (v *visitor) event(ctx context.Context, grant string) (string, error) {
	var events struct{ Items []struct{ ID string } }
	err := v.decode(ctx, "/events?limit=1&grant="+grant, &events)
	if err == nil && len(events.Items) == 0 {
		err = fmt.Errorf("the grant %s has no event", grant)
	}
	if err != nil {
		return "", err
	}
	return events.Items[0].ID, nil
}

// answers returns the addresses of the GET operations of the Admin API, each alone and with each of its parameters.
func (v *visitor) answers(ctx context.Context) (addresses []string, err error) {
	n := v.n
	document, _, err := v.get(ctx, "/admin/api/openapi.json", false)
	if err != nil {
		return nil, err
	}
	var described struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
		}
	}
	if err := json.Unmarshal(document, &described); err != nil {
		return nil, err
	}
	person, email, _ := n.person(0)
	busy, _ := n.client(0)
	other, _ := n.client(4)
	grant := n.id("grt_", 2)
	event, err := v.event(ctx, grant)
	if err != nil {
		return nil, err
	}
	var keys struct {
		Items []struct{ KID string }
	}
	if err := v.decode(ctx, "/keys", &keys); err != nil {
		return nil, err
	}
	ids := map[string][]string{ // examples, by what is before them
		"resources": {n.id("res_", 0), n.id("res_", 1)}, "clients": {busy, other, n.id("mcp_", 201)},
		"users": {person, email, n.id("usr_", 7)}, "groups": {"group-0", "group-7"}, "grants": {grant},
		"sessions": {n.id("ses_", 0)}, "events": {event}, "keys": {keys.Items[0].KID},
		"invitations": {n.id("usr_", n.people)}, "initial_access_tokens": {n.id("iat_", 0)},
	}
	values := map[string][]string{ // of parameters
		"limit": {"200"}, "q": {"a", "ada", "claude", "agent 99", email, "server", "group-1"},
		"origin": {"operator", "registration", "document"}, "user": {person, email}, "client": {busy, other},
		"resource": {mcpServer(0), mcpServer(1), mcpServer(150)}, "live": {"true"}, "grant": {grant},
		"action": {"token.", "login.", "client.update", "tool.", "zzz"}, "outcome": {"allowed", "refused"},
		"actor": {"command:ada", busy, "client:" + busy, "user:" + person}, "address": {"192.0.2.1", "203.0.113.1"},
		"request_id": {event}, "oldest": {"true"},
		"since": {n.now.Add(-90 * 24 * time.Hour).Format(time.RFC3339)},
		"until": {n.now.Add(-80 * 24 * time.Hour).Format(time.RFC3339)},
	}
	together := map[string][]string{
		"/grants": {"live=true&user=" + person, "live=true&client=" + busy, "live=true&resource=" + mcpServer(1),
			"live=true&resource=" + mcpServer(150), "live=true&client=" + busy + "&resource=" + mcpServer(1),
			"user=" + person + "&client=" + busy},
		"/clients": {"origin=operator&q=a", "resource=" + mcpServer(0) + "&q=a"},
		"/events": {"outcome=refused&oldest=true", "user=" + person + "&outcome=refused",
			"client=" + busy + "&oldest=true", "action=client.update&outcome=refused",
			"address=192.0.2.1&outcome=refused&resource=" + mcpServer(0)},
	}
	for _, path := range slices.Sorted(maps.Keys(described.Paths)) {
		operation, found := described.Paths[path]["get"]
		if !found || strings.Contains(path, "/providers/") || path == "/export" { // as above
			continue
		}
		places := []string{path}
		words := strings.Split(path, "/")
		if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "{") }); i > 0 {
			places = nil
			for _, id := range ids[words[i-1]] {
				places = append(places, strings.Replace(path, words[i], url.PathEscape(id), 1))
			}
			if len(places) == 0 {
				return nil, fmt.Errorf("there is no example for %s", path)
			}
		}
		prefix := ""
		if !strings.HasPrefix(path, "/admin") {
			prefix = "/admin/api/v1"
		}
		for _, place := range places {
			addresses = append(addresses, prefix+place)
		}
		place := prefix + places[0]
		for _, p := range operation.Parameters {
			switch {
			case p.In != "query":
			case p.Name == "cursor":
				last, err := v.deep(ctx, place)
				if err != nil {
					return nil, err
				}
				if last != "" {
					addresses = append(addresses, last)
				}
			case values[p.Name] == nil:
				return nil, fmt.Errorf("there is no example for %s of %s", p.Name, path)
			}
			if p.In == "query" {
				for _, value := range values[p.Name] {
					addresses = append(addresses, place+"?"+p.Name+"="+url.QueryEscape(value))
				}
			}
		}
		for _, query := range together[strings.TrimPrefix(place, "/admin/api/v1")] {
			addresses = append(addresses, place+"?"+query)
		}
	}
	return addresses, nil
}

// deep returns the address of a later page of a list, or "" if it has one page.
func (v *visitor) deep(ctx context.Context, place string) (last string, err error) {
	at := place + "?limit=200"
	for range 10 {
		body, _, err := v.get(ctx, at, true)
		if err != nil {
			return "", err
		}
		var page struct{ Next string }
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&page); err != nil {
			return "", err
		}
		if page.Next == "" {
			break
		}
		at = place + "?limit=200&cursor=" + url.QueryEscape(page.Next)
		last = at
	}
	return last, nil
}
