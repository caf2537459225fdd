package declare

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Options say how a file is applied.
type Options struct {
	// DryRun changes nothing, but finds out what would be changed, and which faults there are.
	DryRun bool
	// Prune deletes the records that the file could declare and does not, of the kinds of which the file has a list. It
	// spares clients that registered or have a metadata document, API credentials, and what is built in.
	Prune bool
	// Secrets puts the secrets of new clients into the outcome.
	Secrets bool
}

// Outcome is what was changed, or would be.
type Outcome struct {
	Changes []Change `json:"changes"`
	Notes   []string `json:"notes"`             // what could not be done yet
	Secrets []Secret `json:"secrets,omitempty"` // of the clients that were created, if they are asked for
	Applied bool     `json:"applied"`           // false for a dry run
}

// Secret is the secret of a new client. It is shown once.
type Secret struct {
	ClientID string `json:"client_id"`
	Name     string `json:"client_name"`
	Secret   string `json:"client_secret"`
}

// Apply changes the installation to what f declares, in one transaction: after an error, nothing was changed. What f
// leaves out of a record gets its default, except the members of a group and whether a client is disabled. A record
// that is as declared is neither written nor recorded, so applying a file again changes nothing.
//
// A dry run returns the same outcome and changes nothing. It needs the right to read what f declares; otherwise Apply
// needs the right to write it.
//
// If f cannot be applied, the error is Faults, with all of them. If by may not do what f needs, it is an *admin.Error.
func Apply(ctx context.Context, o *admin.Operations, by admin.Caller, f *File, options Options) (Outcome, error) {
	if !options.DryRun {
		var algs []string
		for _, r := range f.Resources {
			algs = append(algs, r.SigningAlg)
		}
		if err := o.EnsureKeys(ctx, by, algs...); err != nil {
			return Outcome{}, err
		}
	}
	a := &applier{file: f, failed: map[string]bool{}}
	a.out = Outcome{Changes: []Change{}, Notes: []string{}, Applied: !options.DryRun}
	var secrets []Secret
	all := func(o *admin.Operations) error {
		a.installation = installation{o, ctx, by, 0}
		if err := a.permit(options); err != nil {
			return err
		}
		if err := a.all(options.Prune); err != nil {
			return err
		}
		if len(a.faults) > 0 {
			return a.sorted()
		}
		secrets, a.out.Secrets = a.out.Secrets, nil // so that the answer that is kept has none
		if !options.Secrets && !options.DryRun {
			for _, s := range secrets {
				a.out.Notes = append(a.out.Notes, "nobody has seen the secret of the client "+s.ClientID+
					"; make one with: cardea client rotate-secret "+s.ClientID)
			}
		}
		return nil
	}
	err := error(nil)
	if options.DryRun {
		err = o.Rehearse(ctx, by, all)
	} else {
		err = o.Together(ctx, by, &a.out, all)
	}
	if err != nil {
		return Outcome{}, err
	}
	if options.Secrets && !options.DryRun {
		a.out.Secrets = secrets
	}
	return a.out, nil
}

// applier applies a file.
type applier struct {
	installation
	reader
	file   *File
	failed map[string]bool // identifiers of resources that have faults
	out    Outcome
}

// permit returns nil if the caller has the right to what the file is about, so that the refusal names the right that is
// missing. Each operation asks for itself.
func (a *applier) permit(options Options) error {
	action, to := "apply", admin.Write
	if options.DryRun {
		action, to = "apply.dry_run", admin.Read
	}
	needs := func(noun admin.Noun, entries int, list bool) error {
		if entries == 0 && (!options.Prune || !list) {
			return nil
		}
		return a.Permit(a.ctx, a.by, to, action, noun)
	}
	return cmp.Or(
		needs(admin.Groups, len(a.file.Groups), a.file.Groups != nil),
		needs(admin.Resources, len(a.file.Resources), a.file.Resources != nil),
		needs(admin.Clients, len(a.file.Clients), a.file.Clients != nil))
}

// all applies the whole file. First it deletes, so that nothing in the file can depend on what goes.
func (a *applier) all(prune bool) error {
	if prune {
		if err := errors.Join(a.pruneClients(), a.pruneResources()); err != nil {
			return err
		}
	}
	for _, want := range a.file.Groups {
		if err := a.group(want); err != nil {
			return err
		}
	}
	for _, want := range a.file.Resources {
		if err := a.resource(want); err != nil {
			return err
		}
	}
	for _, want := range a.file.Clients {
		if err := a.client(want); err != nil {
			return err
		}
	}
	if prune {
		return a.pruneGroups()
	}
	return nil
}

// undone makes a fault of an error that the record at at causes, and returns any other error.
func (a *applier) undone(err error, at place, what string) error {
	undone := (*admin.Error)(nil)
	switch {
	case !errors.As(err, &undone) || undone.Kind == admin.Forbidden:
		return err
	case undone.Noun == admin.Resources && a.failed[undone.ID]: // its own fault says enough
		return nil
	}
	a.fault(at.of(undone.Field), "%s: %s", what, undone.Error())
	return nil
}

// isMissing reports whether err is an admin.Error of the kind NotFound.
func isMissing(err error) bool {
	undone := (*admin.Error)(nil)
	return errors.As(err, &undone) && undone.Kind == admin.NotFound
}

// changed adds to the outcome that a record was created or updated. It adds nothing if c has no differences and isNew
// is false.
func (a *applier) changed(c Change, isNew bool) {
	c.Verb = Update
	if isNew {
		c.Verb = Create
	}
	if isNew || len(c.Differences) > 0 {
		a.out.Changes = append(a.out.Changes, c)
	}
}

func (a *applier) deleted(d admin.Deletion, id string, err error) error {
	if err == nil {
		c := Change{Verb: Delete, Noun: d.What, ID: id, Name: d.Name, Differences: []Difference{}, Grants: d.Grants,
			Members: d.Members}
		a.out.Changes = append(a.out.Changes, c)
	}
	return err
}

func (a *applier) group(want Group) error {
	before, err := a.installation.group(want.Name)
	isNew := isMissing(err)
	if isNew {
		before = Group{Members: &[]string{}}
		_, err = a.CreateGroup(a.ctx, a.by, want.Name, want.terms())
	} else if err == nil {
		_, err = a.UpdateGroup(a.ctx, a.by, want.Name, want.terms())
	}
	if err != nil {
		return a.undone(err, want.at, "group "+want.Name)
	}
	after := Group{Description: want.Description, SecondFactor: want.SecondFactor, Members: before.Members}
	if want.Members != nil {
		if after.Members, err = a.members(want, *before.Members); err != nil {
			return err
		}
	}
	a.changed(Change{Noun: "group", ID: want.Name, Differences: differences(before, after)}, isNew)
	return nil
}

// members adds the wanted members to a group, removes all others, and returns the addresses of the members after that.
func (a *applier) members(want Group, before []string) (*[]string, error) {
	wanted := map[string]bool{}
	for _, email := range *want.Members {
		wanted[identity.EmailKey(email)] = true
	}
	there, in := map[string]bool{}, map[string]bool{} // by key, and by what the list calls them
	after := []string{}
	for _, email := range before {
		if key := identity.EmailKey(email); wanted[key] {
			there[key], in[email] = true, true
			after = append(after, email)
		} else if _, err := a.RemoveMember(a.ctx, a.by, want.Name, email); err != nil {
			return nil, err
		}
	}
	for _, email := range *want.Members {
		if there[identity.EmailKey(email)] {
			continue
		}
		added, err := a.AddMember(a.ctx, a.by, want.Name, email)
		switch {
		case isMissing(err):
			a.out.Notes = append(a.out.Notes,
				fmt.Sprintf("nobody has the account %s yet, so it is not in the group %s; apply the file again when "+
					"it is there", email, want.Name))
		case err != nil:
			return nil, err
		case !in[added.User]:
			in[added.User] = true
			after = append(after, added.User)
		}
	}
	return &after, nil
}

func (a *applier) resource(want Resource) error {
	before, err := a.Resource(a.ctx, a.by, want.Identifier)
	isNew := isMissing(err)
	after, was := before, Resource{}
	if isNew {
		after, err = a.CreateResource(a.ctx, a.by,
			admin.NewResource{Identifier: want.Identifier, ResourceTerms: want.terms()})
	} else if err == nil {
		was = ofResource(before)
		after, err = a.UpdateResource(a.ctx, a.by, before.ID, want.terms())
	}
	if err != nil {
		a.failed[want.Identifier] = true
		return a.undone(err, want.at, "resource "+want.Identifier)
	}
	a.changed(Change{Noun: "resource", ID: want.Identifier, Name: after.Name,
		Differences: differences(was, ofResource(after))}, isNew)
	return nil
}

func (a *applier) client(want Client) error {
	before, err := a.Client(a.ctx, a.by, want.ID)
	isNew := isMissing(err)
	if err != nil && !isNew {
		return err
	}
	if key, why := a.forbids(want, before, isNew); why != "" {
		a.fault(want.at.of(key), "client %s: %s", want.ID, why)
		return nil
	}
	after, was := before, Client{}
	if isNew {
		after, err = a.CreateClient(a.ctx, a.by, admin.NewClient{
			ID: want.ID, Method: oauth.Method(want.Method), ClientTerms: want.terms(),
		})
		if after.Secret != "" {
			a.out.Secrets = append(a.out.Secrets, Secret{after.ID, after.Name, after.Secret})
		}
	} else {
		was = ofClient(before)
		after, err = a.UpdateClient(a.ctx, a.by, want.ID, want.terms())
	}
	if err != nil {
		return a.undone(err, want.at, "client "+want.ID)
	}
	if want.Disabled != nil && *want.Disabled == after.DisabledAt.IsZero() {
		change := a.EnableClient
		if *want.Disabled {
			change = a.DisableClient
		}
		if after, err = change(a.ctx, a.by, want.ID); err != nil {
			return err
		}
	}
	a.changed(Change{Noun: "client", ID: want.ID, Name: after.Name,
		Differences: differences(was, ofClient(after))}, isNew)
	return nil
}

// forbids returns why a file must not declare a client as it does, with the key that is at fault, or "".
func (a *applier) forbids(want Client, before admin.Client, isNew bool) (key, why string) {
	method := cmp.Or(oauth.Method(want.Method), oauth.MethodBasic)
	if want.Method == "" && (len(want.JWKS) > 0 || want.JWKSURI != "") {
		method = oauth.MethodPrivateKeyJWT
	}
	switch {
	case a.IsCredentials(admin.Client{Resources: want.Resources}), !isNew && a.IsCredentials(before):
		return "resources", "a client for the administration of Cardea cannot stand in a file, so that a file does " +
			"not give rights over the installation; make it with: cardea client create"
	case isNew:
		return "", ""
	case before.Login:
		return "client_id", "this client signs people in, and cannot stand in a file; remove it here, and change it " +
			"with: cardea client update"
	case before.Origin != oauth.ByOperator:
		return "client_id", "this client registered itself or has a metadata document, and only clients that an " +
			"operator made can stand in a file; remove it here, and change it with: cardea client update"
	case before.Method != method:
		return "token_endpoint_auth_method",
			fmt.Sprintf("it authenticates with %s, and that cannot be changed to %s; give the new client another "+
				"client_id", before.Method, method)
	case len(before.ResourceServers) > 0 != (len(want.ResourceServers) > 0):
		return "resource_servers", "credentials for introspection cannot become another client, nor the other way " +
			"round; give the new client another client_id"
	}
	return "", ""
}

func (a *applier) pruneClients() error {
	if a.file.Clients == nil {
		return nil
	}
	declared := map[string]bool{}
	for _, d := range a.file.Clients {
		declared[d.ID] = true
	}
	clients, _, err := a.clients()
	for _, c := range clients {
		if declared[c.ID] {
			continue
		}
		done, err := a.DeleteClient(a.ctx, a.by, c.ID)
		if err = a.deleted(done, c.ID, err); err != nil {
			return err
		}
	}
	return err
}

func (a *applier) pruneResources() error {
	if a.file.Resources == nil {
		return nil
	}
	declared := map[string]bool{}
	for _, d := range a.file.Resources {
		declared[d.Identifier] = true
	}
	resources, err := a.resources()
	for _, r := range resources {
		if declared[r.Identifier] {
			continue
		}
		done, err := a.DeleteResource(a.ctx, a.by, r.ID)
		done.Name = r.Name
		if err = a.deleted(done, r.Identifier, err); err != nil {
			return err
		}
	}
	return err
}

func (a *applier) pruneGroups() error {
	if a.file.Groups == nil {
		return nil
	}
	declared := map[string]bool{}
	for _, d := range a.file.Groups {
		declared[d.Name] = true
	}
	groups, err := a.groups()
	for _, g := range groups {
		if declared[g.Name] {
			continue
		}
		done, err := a.DeleteGroup(a.ctx, a.by, g.Name)
		done.Name = ""
		if err = a.deleted(done, g.Name, err); err != nil {
			return err
		}
	}
	return err
}
