package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/doctor"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// toolRoutes are the pages of the tools of an MCP server: how it is added with them, and whether they are still what
// was reviewed.
func (e *Endpoint) toolRoutes() []web.Route {
	return []web.Route{
		e.form("/admin/servers/add", admin.Resources, "resource.add", e.offerAddition, e.addServer),
		e.route("/admin/servers/{id}/tools", e.show(e.tools), nil),
		e.form("/admin/servers/{id}/look", admin.Resources, "resource.review", nil, e.lookAgain),
		e.form("/admin/servers/{id}/review", admin.Resources, "resource.review", nil, e.review),
	}
}

// toolsPage is the body of the page of the tools of an MCP server.
type toolsPage struct {
	Server     admin.Resource
	Unreviewed []admin.Tool
	More       int // unreviewed tools that are not shown, because a form cannot have more
	Reviewed   []admin.Tool
}

func (e *Endpoint) tools(v *visit) (outcome, error) {
	server, err := e.Operations.Tools(v.Context(), v.caller, v.id())
	return toolScreen(server), err
}

func toolScreen(server admin.Server) screen {
	page := toolsPage{Server: server.Resource}
	for _, t := range server.Tools {
		if t.State == admin.ToolReviewed {
			page.Reviewed = append(page.Reviewed, t)
		} else {
			page.Unreviewed = append(page.Unreviewed, t)
		}
	}
	if page.More = len(page.Unreviewed) - maxAcceptances; page.More > 0 {
		page.Unreviewed = page.Unreviewed[:maxAcceptances]
	}
	return screen{template: "tools.html", title: "Tools of " + server.Resource.Name, body: page}
}

// lookTime bounds a look, because a page must come within the time that the server has for a response.
const lookTime = 30 * time.Second

// lookAt returns the tools and the name of the MCP server at address. It sends no token, and connects only to addresses
// that the other fetches of this server may connect to. If the tools cannot be listed, problem is a sentence that says
// why. The error is errDiagnosing if the person's earlier look is still running.
func (e *Endpoint) lookAt(v *visit, address string) (seen []json.RawMessage, name, problem string, err error) {
	if !e.diagnosing.enter(v.Person.ID) {
		return nil, "", "", errDiagnosing
	}
	defer e.diagnosing.leave(v.Person.ID)
	ctx, cancel := context.WithTimeout(v.Context(), lookTime)
	defer cancel()
	sight, err := doctor.Look(ctx, doctor.LookOptions{Options: doctor.Options{URL: address, Now: e.DB.Now,
		Transport: e.Transport}})
	if errors.Is(err, doctor.ErrWantsToken) {
		return nil, "", "The MCP server wants an access token before it lists its tools. Sign in to it with the " +
			"command: cardea resource add " + address + " --login", nil
	}
	if err != nil {
		return nil, "", web.Sentence(err.Error()), nil
	}
	return sight.Tools, audit.Clean(sight.Name), "", nil
}

// lookAgain looks at the tools of an MCP server, and records what it sees.
func (e *Endpoint) lookAgain(v *visit, _ url.Values) (outcome, error) {
	server, err := e.Operations.Tools(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	seen, _, problem, err := e.lookAt(v, server.Resource.Identifier)
	if err != nil {
		return nil, err
	}
	if problem != "" {
		s := toolScreen(server)
		s.problem, s.status = problem, http.StatusUnprocessableEntity
		return s, nil
	}
	_, err = e.Operations.ReviewResource(v.Context(), v.caller, v.id(), admin.Review{Seen: seen})
	return redirect{"/admin/servers/" + v.id() + "/tools", "tools.seen"}, err
}

// maxAcceptances bounds the tools that one form shows and accepts.
const maxAcceptances = 300

// review accepts the tools whose boxes are ticked, as the page showed them.
func (e *Endpoint) review(v *visit, form url.Values) (outcome, error) {
	var r admin.Review
	for i := range maxAcceptances {
		n := strconv.Itoa(i)
		if name := form.Get("accept-" + n); name != "" {
			r.Accept = append(r.Accept, admin.AcceptedTool{Name: name, Hash: form.Get("hash-" + n),
				Risk: oauth.Risk(form.Get("risk-" + n))})
		}
	}
	if len(r.Accept) == 0 {
		return redirect{path: "/admin/servers/" + v.id() + "/tools"}, nil
	}
	_, err := e.Operations.ReviewResource(v.Context(), v.caller, v.id(), r)
	return redirect{"/admin/servers/" + v.id() + "/tools", "tools.reviewed"}, err
}

// addition is the body of the page that adds an MCP server by its address.
type addition struct {
	Identifier string
	Name       string
	Digest     string // of the tools that the page shows; "" before a look
	Tools      []admin.ProposedTool
}

func (e *Endpoint) offerAddition(*visit) (outcome, error) {
	return screen{template: "add.html", title: "Add an MCP server by its address", body: addition{}}, nil
}

// addServer looks at an MCP server and shows its tools, and adds it if they are those that the form showed.
func (e *Endpoint) addServer(v *visit, form url.Values) (outcome, error) {
	page := addition{Identifier: strings.TrimSpace(form.Get("identifier")), Name: strings.TrimSpace(form.Get("name"))}
	s := screen{template: "add.html", title: "Add an MCP server by its address"}
	fail := func(problem string) (outcome, error) {
		s.body, s.problem, s.status = page, problem, http.StatusUnprocessableEntity
		return s, nil
	}
	identifier, err := oauth.CheckIdentifier(page.Identifier)
	if refused, ok := oauth.AsRefusal(err); ok {
		return fail(web.Sentence(refused.Description))
	}
	seen, name, problem, err := e.lookAt(v, identifier)
	if err != nil {
		return nil, err
	}
	if problem != "" {
		return fail(problem)
	}
	if page.Name == "" {
		page.Name = name
	}
	tools, err := admin.ProposedTools(seen)
	if refused := (*admin.Error)(nil); errors.As(err, &refused) {
		return fail(web.Sentence(refused.Text(label)))
	}
	digest := sha256.New()
	risks := map[string]oauth.Risk{}
	for i, tool := range tools {
		digest.Write([]byte(tool.Hash))
		if chosen := oauth.Risk(form.Get("risk-" + strconv.Itoa(i))); chosen != "" {
			tool.Risk = chosen
		}
		risks[tool.Name] = tool.Risk
		page.Tools = append(page.Tools, tool)
	}
	page.Digest = hex.EncodeToString(digest.Sum(nil))
	if shown := form.Get("digest"); shown != page.Digest {
		if s.body = page; shown != "" {
			return fail("The tools are no longer those that this page showed. Read them again.")
		}
		return s, nil
	}
	n := admin.NewServer{Tools: seen, ToolRisks: risks}
	if n.Identifier = identifier; page.Name != "" {
		n.Name = &page.Name
	}
	made, err := e.Operations.AddResource(v.Context(), v.caller, n)
	if refused := (*admin.Error)(nil); errors.As(err, &refused) &&
		(refused.Kind == admin.Invalid || refused.Kind == admin.Conflict) {
		return fail(web.Sentence(refused.Text(label)))
	}
	return redirect{"/admin/servers/" + made.Resource.ID + "/tools", "tools.added"}, err
}
