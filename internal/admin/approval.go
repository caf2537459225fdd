package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// WaitingClient is a client that waits for an operator, with what the last person who came with it asked for.
type WaitingClient struct {
	ID           string       `json:"client_id"`
	Name         string       `json:"client_name"`
	Origin       oauth.Origin `json:"origin"`
	RedirectURIs []string     `json:"redirect_uris"`
	Sites        []string     `json:"sites"` // of its document and redirect URIs; none if all are on people's devices
	FirstAskedAt Moment       `json:"first_asked_at"`
	LastAskedAt  Moment       `json:"last_asked_at"`
	People       int64        `json:"people"` // how many asked since it was dismissed
	User         string       `json:"user"`   // e-mail address of the last; "" if the account is deleted
	UserName     string       `json:"user_name"`
	Resource     string       `json:"resource"` // identifier; "" if it is deleted
	ResourceName string       `json:"resource_name"`
	Scope        string       `json:"scope"`
	RedirectURI  string       `json:"redirect_uri"` // where the answer is to go
	ApprovedFor  []string     `json:"approved_for"` // groups for which it is approved already
	// Seen stands for what the client says of itself; see Approval.
	Seen string `json:"seen"`
}

// seenOf returns a text that changes whenever what a client says of itself does, such as its name, redirect URIs or
// keys.
func seenOf(c *oauth.Client) string {
	text, err := json.Marshal(c.Metadata)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

func viewWaiting(w *store.WaitingListing) WaitingClient {
	marks := client.MarksOf(w.Client)
	return WaitingClient{
		ID: w.ClientID, Name: w.Client.Name, Origin: w.Client.Origin,
		RedirectURIs: append([]string{}, w.Client.RedirectURIs...), Sites: append([]string{}, marks.Sites...),
		FirstAskedAt: Moment{w.FirstAt}, LastAskedAt: Moment{w.LastAt}, People: w.People, User: w.UserEmail,
		UserName: w.UserName,
		Resource: w.Resource, ResourceName: w.ResourceName, Scope: w.Scope.String(), RedirectURI: w.RedirectURI,
		ApprovedFor: []string{}, Seen: seenOf(w.Client),
	}
}

// WaitingClients returns a page of the clients that wait for an operator, in the order in which they first asked, and
// the cursor of the next page, "" if there is none.
func (o *Operations) WaitingClients(ctx context.Context, by Caller,
	page store.Page) (views []WaitingClient, next string, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		waiting, cursor, err := tx.WaitingClients(page)
		if views, next, err = viewed(viewWaiting, waiting, cursor, err); err != nil {
			return err
		}
		ids := make([]string, len(views))
		for i := range views {
			ids[i] = views[i].ID
		}
		groups, err := tx.ApprovedGroups(ids...)
		for i := range views {
			views[i].ApprovedFor = append(views[i].ApprovedFor, groups[views[i].ID]...)
		}
		return err
	})
	return views, next, err
}

// WaitingCount returns the number of clients that wait for an operator.
func (o *Operations) WaitingCount(ctx context.Context, by Caller) (n int, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) (err error) {
		n, err = tx.WaitingCount()
		return err
	})
	return n, err
}

// Approval says for whom a client is approved: for everybody if neither a group nor a person is given.
type Approval struct {
	Group *string `json:"group,omitempty" jsonschema:"the name of a group whose members may use it"`
	Once  *string `json:"once,omitempty" jsonschema:"the id or e-mail address of a person who may allow it something once"`
	// Seen is the WaitingClient.Seen of what the operator looked at. The approval is refused as Stale if the client has
	// another now. "" is not compared.
	Seen string `json:"seen,omitempty" jsonschema:"the value seen of the client in the list of those that wait, so that it is not approved if it has changed since"`
}

// onceFor is how long an approval for one time can be used.
const onceFor = 7 * 24 * time.Hour

// ApproveClient marks a client that registered itself, or has a metadata document, as approved for everybody.
func (o *Operations) ApproveClient(ctx context.Context, by Caller, id string) (Client, error) {
	return o.ApproveClientFor(ctx, by, id, Approval{})
}

// ApproveClientFor approves a client for everybody, or for the members of a group, as long as they are in it, or for
// one person and one consent, within a week. Grants that were given then stay when the person leaves the group.
func (o *Operations) ApproveClientFor(ctx context.Context, by Caller, id string, a Approval) (Client, error) {
	what, who := "", ""
	switch {
	case a.Group != nil && a.Once != nil:
		return Client{}, invalid("group",
			"give one of {group} and {once}; without both, the client is approved for everybody")
	case a.Group != nil:
		what, who = "group", *a.Group
	case a.Once != nil:
		what, who = "once", *a.Once
	}
	if what != "" && who == "" {
		return Client{}, invalid(what, "{"+what+"} is empty; leave it out to approve the client for everybody")
	}
	event := audit.Client("approve", id).With(what, who)
	return o.decideOn(ctx, by, event, func(tx *store.Tx, c *oauth.Client) error {
		if a.Seen != "" && a.Seen != seenOf(c) {
			return &Error{Kind: Stale,
				format: "the client has changed since you looked at it: look at it again, then decide"}
		}
		if what == "" {
			if c.Approved() {
				return nil
			}
			c.ApprovedAt = tx.Now()
			return tx.UpdateClient(c)
		}
		if a.Group != nil {
			g, err := findGroup(tx.Group, who)
			if err != nil {
				return err
			}
			return tx.ApproveForGroup(c.ID, g.ID)
		}
		u, err := findUser(tx, who)
		if err != nil {
			return err
		}
		return tx.ApproveOnce(c.ID, u.ID, tx.Now().Add(onceFor))
	})
}

// decideOn locks the client of decision, runs fn on it, takes it out of the inbox, and records decision with what has
// changed. It refuses if the client is blocked.
func (o *Operations) decideOn(ctx context.Context, by Caller, decision audit.Event,
	fn func(*store.Tx, *oauth.Client) error) (view Client, err error) {
	id := decision.ClientID
	err = o.change(ctx, by, Clients, decision.Action, &view, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		if b, err := tx.Block(id); err == nil && c.Origin != oauth.ByOperator {
			return event, conflict("", "client_id", b.ClientID, "the client %s is blocked; unblock it first")
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return event, err
		}
		before := viewClient(c)
		if err := o.matches(before); err != nil {
			return event, err
		}
		if err := fn(tx, c); err != nil {
			return event, err
		}
		if err := tx.EndWaiting(id); err != nil { // people whom the approval does not cover ask again
			return event, err
		}
		if c, err = tx.Client(id); err != nil {
			return event, err
		}
		view = viewClient(c)
		return decision.Changed(before, view), describe(tx, &view)
	})
	return view, err
}

// Withdrawal says which approval of a client is withdrawn.
type Withdrawal struct {
	Group     *string `json:"group,omitempty" jsonschema:"only the approval for the members of this group; all approvals if it is not given"`
	EndGrants bool    `json:"end_grants,omitempty" jsonschema:"whether every grant of the client ends with it"`
}

// Unapproval is a client whose approval was withdrawn, and how many grants ended with it.
type Unapproval struct {
	Client
	Grants int `json:"grants_ended"` // those that were in force
}

// UnapproveClient withdraws the approval of a client that registered itself or has a metadata document. It is
// unverified again: no consent is remembered, and if clients must be approved, the next person waits. Existing grants
// stay, unless terms end them. It changes and records nothing if neither such an approval nor a grant to end exists.
func (o *Operations) UnapproveClient(ctx context.Context, by Caller, id string, terms Withdrawal) (
	done Unapproval, err error) {
	err = o.change(ctx, by, Clients, "client.unapprove", &done, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		before := viewClient(c)
		if err := o.matches(before); err != nil {
			return event, err
		}
		if c.Origin == oauth.ByOperator {
			return event, conflict("", "client_id", id,
				"the client %s was made by an operator, which approves it; disable or delete it instead")
		}
		changed, err := withdraw(tx, c, terms.Group)
		if err != nil {
			return event, err
		}
		if terms.EndGrants {
			if done.Grants, err = tx.LiveGrants(store.GrantFilter{ClientID: id}); err != nil {
				return event, err
			}
			if err := tx.RevokeClientGrants(id, "approval_withdrawn"); err != nil {
				return event, err
			}
		}
		if c, err = tx.Client(id); err != nil {
			return event, err
		}
		done.Client = viewClient(c)
		if changed || done.Grants > 0 {
			event = audit.Client("unapprove", id).With("group", valueOf(terms.Group)).Changed(before, done.Client)
			event = endedGrants(event, done.Grants)
		}
		return event, describe(tx, &done.Client)
	})
	return done, err
}

// valueOf returns what text points to, "" for nil.
func valueOf(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// withdraw ends the approval of a client for the members of a group, or all approvals if that is nil, and reports
// whether there was one.
func withdraw(tx *store.Tx, c *oauth.Client, group *string) (bool, error) {
	if group != nil {
		g, err := findGroup(tx.Group, *group)
		if err != nil {
			return false, err
		}
		return tx.EndGroupApproval(c.ID, g.ID)
	}
	n, err := tx.EndApprovals(c.ID)
	if err != nil || !c.Approved() {
		return n > 0, err
	}
	c.ApprovedAt = time.Time{}
	return true, tx.UpdateClient(c)
}

// DismissClient refuses all requests that wait for an operator to approve the client. A later request of the client
// waits again; use BlockClient to refuse those too.
func (o *Operations) DismissClient(ctx context.Context, by Caller, id string) (view Client, err error) {
	err = o.change(ctx, by, Clients, "client.dismiss", &view, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		if err != nil {
			return event, err
		}
		view = viewClient(c)
		if err := o.matches(view); err != nil {
			return event, err
		}
		switch waits, err := tx.Dismiss(id); {
		case err != nil:
			return event, err
		case !waits:
			return event, conflict("", "client_id", id, "the client %s does not wait for approval")
		}
		return audit.Client("dismiss", id), describe(tx, &view)
	})
	return view, err
}

// Block is a block as operators see it.
type Block struct {
	ID        string   `json:"id"`
	ClientID  string   `json:"client_id"`
	Name      string   `json:"client_name"`
	Sites     []string `json:"sites"` // no client on these comes in, unless an operator approves it
	Reason    string   `json:"reason"`
	CreatedAt Moment   `json:"created_at"`
	// GrantsEnded is how many grants were in force. Only BlockClient sets it.
	GrantsEnded int `json:"grants_ended"`
}

func viewBlock(b *oauth.Block) Block {
	return Block{ID: b.ID, ClientID: b.ClientID, Name: b.Name, Sites: append([]string{}, b.Marks.Sites...),
		Reason: b.Reason, CreatedAt: Moment{b.CreatedAt}}
}

// BlockTerms say what a block covers in addition to the client and all that have its name, redirect URIs and
// software_id.
type BlockTerms struct {
	// Sites are the domains that are shut out with it. They must be among those of its document and redirect URIs; nil
	// means all of these.
	Sites  []string `json:"sites,omitzero" jsonschema:"the domains that are shut out with it; all of its document and redirect URIs if it is not given"`
	Reason string   `json:"reason,omitempty" jsonschema:"why, for operators"`
}

// Sites returns the sites that blocking the client shuts out with it.
func Sites(c Client) []string {
	return client.MarksOf(&oauth.Client{ID: c.ID, Origin: c.Origin,
		Metadata: oauth.Metadata{RedirectURIs: c.RedirectURIs}}).Sites
}

// maxReason is the longest reason, in bytes.
const maxReason = 500

// BlockClient ends all grants of a client that registered itself or has a metadata document, with their tokens and its
// approvals, and keeps it from coming back under another client_id. A client with a metadata document need not be
// stored.
func (o *Operations) BlockClient(ctx context.Context, by Caller, id string, terms BlockTerms) (view Block, err error) {
	if len(terms.Reason) > maxReason {
		return view, invalid("reason", "{reason} is longer than %d bytes", maxReason)
	}
	err = o.change(ctx, by, Clients, "client.block", &view, func(tx *store.Tx) (event audit.Event, err error) {
		c, err := findClient(tx.LockClient, id)
		stored := err == nil
		if e := (*Error)(nil); errors.As(err, &e) && e.Kind == NotFound && client.IsDocumentURL(id) {
			c, err = &oauth.Client{ID: id, Origin: oauth.ByDocument}, nil
		}
		switch {
		case err != nil:
			return event, err
		case c.Origin == oauth.ByOperator:
			return event, conflict("", "client_id", id,
				"the client %s was made by an operator; disable or delete it instead")
		}
		if stored {
			if err := o.matches(viewClient(c)); err != nil {
				return event, err
			}
		}
		b := &oauth.Block{ID: oauth.NewID("blk_"), ClientID: c.ID, Name: c.Name, Reason: terms.Reason,
			Marks: client.MarksOf(c), CreatedAt: tx.Now()}
		if terms.Sites != nil {
			for _, site := range terms.Sites {
				if !slices.Contains(b.Marks.Sites, site) {
					return event, invalid("sites",
						"{sites} has %q, which is not a site of the client; its sites are: %s", site,
						orNone(b.Marks.Sites))
				}
			}
			b.Marks.Sites = terms.Sites
		}
		if err := tx.CreateBlock(b); errors.Is(err, store.ErrConflict) {
			return event, conflict("", "client_id", id,
				"the client %s is blocked already; unblock it first to block it again")
		} else if err != nil {
			return event, err
		}
		view = viewBlock(b)
		if stored {
			if view.GrantsEnded, err = endClient(tx, c); err != nil {
				return event, err
			}
		}
		event = audit.Block("block", c.ID, b.ID).With("sites", strings.Join(b.Marks.Sites, " ")).
			With("reason", b.Reason)
		return event.With("grants_ended", strconv.Itoa(view.GrantsEnded)), nil
	})
	return view, err
}

// endClient ends the grants and the approvals of a client, takes it out of the inbox, and returns how many grants were
// in force.
func endClient(tx *store.Tx, c *oauth.Client) (int, error) {
	live, err := tx.LiveGrants(store.GrantFilter{ClientID: c.ID})
	if err != nil {
		return 0, err
	}
	if err := tx.RevokeClientGrants(c.ID, "client_blocked"); err != nil {
		return 0, err
	}
	if _, err := tx.EndApprovals(c.ID); err != nil {
		return 0, err
	}
	if err := tx.EndWaiting(c.ID); err != nil {
		return 0, err
	}
	c.ApprovedAt = time.Time{}
	return live, tx.UpdateClient(c)
}

func orNone(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// UnblockClient ends the block with the given id, or of the client with the given id. The client may come again, as one
// that nobody has approved. Grants that the block ended stay ended.
func (o *Operations) UnblockClient(ctx context.Context, by Caller, id string) (view Block, err error) {
	err = o.change(ctx, by, Clients, "client.unblock", &view, func(tx *store.Tx) (event audit.Event, err error) {
		b, err := tx.Block(id)
		if err == nil {
			err = tx.DeleteBlock(b.ID)
		}
		if errors.Is(err, store.ErrNotFound) { // or another operator was faster
			return event, notFound(Clients, id, "there is no block of the client %s")
		}
		if err != nil {
			return event, err
		}
		view = viewBlock(b)
		return audit.Block("unblock", b.ClientID, b.ID), nil
	})
	return view, err
}

// Blocks returns a page of the blocks and the cursor of the next page, "" if there is none.
func (o *Operations) Blocks(ctx context.Context, by Caller, page store.Page) (views []Block, next string, err error) {
	err = o.look(ctx, by, Clients, func(tx *store.Tx) error {
		blocks, cursor, err := tx.Blocks(page)
		views, next, err = viewed(viewBlock, blocks, cursor, err)
		return err
	})
	return views, next, err
}
