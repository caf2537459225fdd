package console

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// The paths of the inbox and of the list of blocks.
const (
	waitingPath = "/admin/clients/waiting"
	blocksPath  = "/admin/clients/blocks"
)

// to returns a page that leads to another.
func to(path string) pager {
	return func(*visit) (outcome, error) { return redirect{path: path}, nil }
}

// waitingRoutes are the pages of the clients that wait for a decision, and of those that are blocked.
func (e *Endpoint) waitingRoutes() []web.Route {
	return []web.Route{
		e.route(waitingPath, e.show(e.waiting), nil),
		e.form("/admin/clients/{id}/decide", admin.Clients, "client.approve", to(waitingPath), e.decide),
		e.form("/admin/clients/{id}/block", admin.Clients, "client.block", e.confirmBlock, e.block),
		e.route(blocksPath, e.show(e.blocks), nil),
		e.form("/admin/clients/{id}/unblock", admin.Clients, "client.unblock", to(blocksPath), e.unblock),
	}
}

// waitingList is the body of the inbox.
type waitingList struct {
	Clients []waitingClient
	Groups  []admin.Group
	Next    string
}

func (l waitingList) next() string { return l.Next }

// Typed reports whether the name of a group is typed, because there are too many to list them beside each client.
func (l waitingList) Typed() bool { return len(l.Groups) > 20 }

// waitingClient is a client in the inbox.
type waitingClient struct {
	admin.WaitingClient
	To interaction.Destination // where the answer goes
}

// maxGroups bounds how many groups a form offers to choose from.
const maxGroups = 200

func (e *Endpoint) waiting(v *visit) (outcome, error) {
	page := v.page()
	page.Newest = false
	clients, next, err := e.Operations.WaitingClients(v.Context(), v.caller, page)
	if err != nil {
		return nil, err
	}
	list := waitingList{Next: next}
	for _, c := range clients {
		list.Clients = append(list.Clients, waitingClient{c, interaction.DestinationOf(c.RedirectURI)})
	}
	list.Groups, _, err = e.Operations.Groups(v.Context(), v.caller, store.Page{Limit: maxGroups})
	return screen{template: "waiting.html", title: "Clients that wait", body: list}, err
}

// waitingCount returns the number of clients in the inbox, 0 if the person may not see it.
func (e *Endpoint) waitingCount(v *visit) int {
	n, err := e.Operations.WaitingCount(v.Context(), v.caller)
	if err != nil {
		return 0
	}
	return n
}

var errUndecided = oauth.Refuse(oauth.InvalidRequest, "choose what to do with the client")

// decide answers the form of an entry of the inbox.
func (e *Endpoint) decide(v *visit, form url.Values) (outcome, error) {
	if form.Get("decision") == "dismiss" {
		_, err := e.Operations.DismissClient(v.Context(), v.caller, v.id())
		return redirect{waitingPath, "client.dismissed"}, err
	}
	a := admin.Approval{Seen: form.Get("seen")}
	switch form.Get("decision") {
	case "everybody":
	case "group":
		a.Group = new(form.Get("group"))
	case "once":
		a.Once = new(form.Get("person"))
	default:
		return nil, errUndecided
	}
	if a.Seen == "" {
		return nil, errUndecided
	}
	_, err := e.Operations.ApproveClientFor(v.Context(), v.caller, v.id(), a)
	return redirect{waitingPath, "client.let_in"}, err
}

func (e *Endpoint) confirmBlock(v *visit) (outcome, error) {
	c, err := e.Operations.Client(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	ends := []string{
		"Every grant that people gave it ends, and its tokens are refused at once.",
		"People who wait for it are told that it is blocked.",
		"It does not come back under another id: no client is let in with the same name and redirect addresses.",
	}
	for _, site := range admin.Sites(c) {
		ends = append(ends,
			"No other client that returns to "+site+" or a host below it is let in, unless you approve that one. To "+
				"leave a site out, use cardea client block with --site.")
	}
	return screen{template: "confirm.html", title: "Block " + clientName(c), body: confirmation{
		Question: "Block the client " + clientName(c) + "?", Ends: ends, Button: "Block it", Back: clientPath(c.ID),
		Reason: true,
	}}, nil
}

func (e *Endpoint) block(v *visit, form url.Values) (outcome, error) {
	_, err := e.Operations.BlockClient(v.Context(), v.caller, v.id(),
		admin.BlockTerms{Reason: strings.TrimSpace(form.Get("reason"))})
	return redirect{blocksPath, "client.blocked"}, err
}

// blockList is the body of the list of blocks.
type blockList struct {
	Blocks []admin.Block
	Next   string
}

func (l blockList) next() string { return l.Next }

func (e *Endpoint) blocks(v *visit) (outcome, error) {
	var list blockList
	var err error
	list.Blocks, list.Next, err = e.Operations.Blocks(v.Context(), v.caller, v.page())
	return screen{template: "blocks.html", title: "Blocked clients", body: list}, err
}

func (e *Endpoint) unblock(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.UnblockClient(v.Context(), v.caller, v.id())
	return redirect{blocksPath, "client.unblocked"}, err
}

// attention returns what an operator should look at.
func (e *Endpoint) attention(v *visit) []notice {
	switch n := e.waitingCount(v); n {
	case 0:
		return nil
	case 1:
		return []notice{{"A client waits to be approved", waitingPath}}
	default:
		return []notice{{strconv.Itoa(n) + " clients wait to be approved", waitingPath}}
	}
}
