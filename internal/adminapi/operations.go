package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// ByID, ByKID, Change and Creation are the inputs of operations on one record.
type (
	// ByID names it by its id.
	ByID struct {
		ID string `path:"id"`
	}
	// ByKID names a signing key.
	ByKID struct {
		KID string `path:"kid"`
	}
	// Change names it by its id and has its new terms.
	Change[T any] struct {
		ID   string `path:"id"`
		Body T
	}
	// Creation describes what to create.
	Creation[T any] struct{ Body T }
)

// These are short, because each row of the table has them.
type (
	ctx = context.Context
	ops = *admin.Operations
	who = admin.Caller
)

// Resources: MCP servers.
var (
	ListResources = add(Spec{Method: "GET", Path: "/resources", Noun: admin.Resources, Verb: "resource list",
		Summary: "List the MCP servers, oldest first. What is built into this server is not among them."},
		func(c ctx, o ops, by who, in Search) (Page[admin.Resource], error) {
			return paged(o.Resources(c, by, in.page()))
		})
	CreateResource = add(Spec{Method: "POST", Path: "/resources", Noun: admin.Resources, Verb: "resource create",
		Status: http.StatusCreated, Required: "identifier", Summary: "Register an MCP server."},
		func(c ctx, o ops, by who, in Creation[admin.NewResource]) (admin.Resource, error) {
			return o.CreateResource(c, by, in.Body)
		})
	ShowResource = add(Spec{Method: "GET", Path: "/resources/{id}", Noun: admin.Resources, Verb: "resource show",
		Summary: "Show an MCP server by its id or identifier."},
		func(c ctx, o ops, by who, in ByID) (admin.Resource, error) { return o.Resource(c, by, in.ID) })
	UpdateResource = add(Spec{Method: "PATCH", Path: "/resources/{id}", Noun: admin.Resources, Verb: "resource update",
		Summary: "Change an MCP server."},
		func(c ctx, o ops, by who, in Change[admin.ResourceTerms]) (admin.Resource, error) {
			return o.UpdateResource(c, by, in.ID, in.Body)
		})
	DeleteResource = add(Spec{Method: "DELETE", Path: "/resources/{id}", Noun: admin.Resources, Verb: "resource delete",
		Destroys: true, Summary: "Delete an MCP server, and end every grant at it."},
		func(c ctx, o ops, by who, in ByID) (admin.Deletion, error) { return o.DeleteResource(c, by, in.ID) })
	AddResource = add(Spec{Method: "POST", Path: "/resources/add", Noun: admin.Resources, Verb: "resource add",
		Status: http.StatusCreated, Required: "identifier tools", Summary: "Register an MCP server with the tools " +
			"that it lists, which are frozen as they are; risks and scopes that are not given are proposed."},
		func(c ctx, o ops, by who, in Creation[admin.NewServer]) (admin.Server, error) {
			return o.AddResource(c, by, in.Body)
		})
	ListTools = add(Spec{Method: "GET", Path: "/resources/{id}/tools", Noun: admin.Resources, Verb: "resource tools",
		Summary: "List the tools of an MCP server as they were reviewed, and how they differ from that now."},
		func(c ctx, o ops, by who, in ByID) (admin.Server, error) { return o.Tools(c, by, in.ID) })
	ReviewResource = add(Spec{Method: "POST", Path: "/resources/{id}/review", Noun: admin.Resources,
		Verb: "resource review", Summary: "Record what an MCP server lists as its tools now, and accept tools that " +
			"are new, changed or gone."},
		func(c ctx, o ops, by who, in Change[admin.Review]) (admin.Server, error) {
			return o.ReviewResource(c, by, in.ID, in.Body)
		})
)

// Overlap is the input of RotateClientSecret.
type Overlap struct {
	Overlap *admin.Span `json:"overlap,omitempty" jsonschema:"how long the old secret lives on, in seconds; a day if it is not given"`
}

// ClientListing is the input of ListClients.
type ClientListing struct {
	Search
	Origin   string `query:"origin" enum:"operator,registration,document" doc:"Only those that operators made, that registered themselves, or that have a metadata document."`
	Resource string `query:"resource" doc:"Only those that are bound to this MCP server, by its id or address."`
}

// Clients.
var (
	ListClients = add(Spec{Method: "GET", Path: "/clients", Noun: admin.Clients, Verb: "client list",
		Summary: "List the clients, oldest first."},
		func(c ctx, o ops, by who, in ClientListing) (Page[admin.Client], error) {
			return paged(o.Clients(c, by, admin.ClientQuery{Origin: oauth.Origin(in.Origin), Resource: in.Resource},
				in.page()))
		})
	CreateClient = add(Spec{Method: "POST", Path: "/clients", Noun: admin.Clients, Verb: "client create",
		Status: http.StatusCreated, Required: "client_name",
		Summary: "Make a client; its secret is in the answer, this once."},
		func(c ctx, o ops, by who, in Creation[admin.NewClient]) (admin.Client, error) {
			return o.CreateClient(c, by, in.Body)
		})
	ShowClient = add(Spec{Method: "GET", Path: "/clients/{id}", Noun: admin.Clients, Verb: "client show",
		Summary: "Show a client."},
		func(c ctx, o ops, by who, in ByID) (admin.Client, error) { return o.Client(c, by, in.ID) })
	UpdateClient = add(Spec{Method: "PATCH", Path: "/clients/{id}", Noun: admin.Clients, Verb: "client update",
		Summary: "Change a client."},
		func(c ctx, o ops, by who, in Change[admin.ClientTerms]) (admin.Client, error) {
			return o.UpdateClient(c, by, in.ID, in.Body)
		})
	DeleteClient = add(Spec{Method: "DELETE", Path: "/clients/{id}", Noun: admin.Clients, Verb: "client delete",
		Destroys: true, Summary: "Delete a client, and end every grant it has."},
		func(c ctx, o ops, by who, in ByID) (admin.Deletion, error) { return o.DeleteClient(c, by, in.ID) })
	ApproveClient = add(Spec{Method: "POST", Path: "/clients/{id}/approve", Noun: admin.Clients, Verb: "client approve",
		Summary: "Approve a client for everybody, for a group, or for one person once."},
		func(c ctx, o ops, by who, in Change[*admin.Approval]) (admin.Client, error) {
			if in.Body == nil {
				return o.ApproveClient(c, by, in.ID)
			}
			return o.ApproveClientFor(c, by, in.ID, *in.Body)
		})
	UnapproveClient = add(Spec{Method: "POST", Path: "/clients/{id}/unapprove", Noun: admin.Clients,
		Verb: "client unapprove", Destroys: true, Summary: "Withdraw the approval of a client for everybody and all " +
			"groups, or for one group; its grants go on unless end_grants says otherwise."},
		func(c ctx, o ops, by who, in Change[*admin.Withdrawal]) (admin.Unapproval, error) {
			if in.Body == nil {
				return o.UnapproveClient(c, by, in.ID, admin.Withdrawal{})
			}
			return o.UnapproveClient(c, by, in.ID, *in.Body)
		})
	ListWaitingClients = add(Spec{Method: "GET", Path: "/clients/waiting", Noun: admin.Clients, Verb: "client waiting",
		Summary: "List the clients that wait for approval, with who asked and for what."},
		func(c ctx, o ops, by who, in Listing) (Page[admin.WaitingClient], error) {
			return paged(o.WaitingClients(c, by, in.page()))
		})
	DismissClient = add(Spec{Method: "POST", Path: "/clients/{id}/dismiss", Noun: admin.Clients, Verb: "client dismiss",
		Summary: "Refuse all who wait for the approval of a client; it may ask again."},
		func(c ctx, o ops, by who, in ByID) (admin.Client, error) { return o.DismissClient(c, by, in.ID) })
	BlockClient = add(Spec{Method: "POST", Path: "/clients/{id}/block", Noun: admin.Clients, Verb: "client block",
		Destroys: true, Summary: "End all that a client has, and keep it and its sites from coming back."},
		func(c ctx, o ops, by who, in Change[*admin.BlockTerms]) (admin.Block, error) {
			if in.Body == nil {
				return o.BlockClient(c, by, in.ID, admin.BlockTerms{})
			}
			return o.BlockClient(c, by, in.ID, *in.Body)
		})
	UnblockClient = add(Spec{Method: "POST", Path: "/clients/{id}/unblock", Noun: admin.Clients, Verb: "client unblock",
		Summary: "Let a blocked client come again."},
		func(c ctx, o ops, by who, in ByID) (admin.Block, error) { return o.UnblockClient(c, by, in.ID) })
	ListBlocks = add(Spec{Method: "GET", Path: "/clients/blocks", Noun: admin.Clients, Verb: "client blocks",
		Summary: "List the blocks of clients, oldest first."},
		func(c ctx, o ops, by who, in Listing) (Page[admin.Block], error) {
			return paged(o.Blocks(c, by, in.page()))
		})
	ListProfiles = add(Spec{Method: "GET", Path: "/clients/profiles", Noun: admin.Clients, Verb: "client profiles",
		Summary: "List the exceptions to the rules for certain clients, with the reason and how often each was used."},
		func(c ctx, o ops, by who, in Listing) (Page[admin.Profile], error) {
			profiles, err := o.Profiles(c, by)
			return Page[admin.Profile]{Items: profiles}, err
		})
	DisableClient = add(Spec{Method: "POST", Path: "/clients/{id}/disable", Noun: admin.Clients, Verb: "client disable",
		Destroys: true, Summary: "Shut a client out, until it is enabled."},
		func(c ctx, o ops, by who, in ByID) (admin.Client, error) { return o.DisableClient(c, by, in.ID) })
	EnableClient = add(Spec{Method: "POST", Path: "/clients/{id}/enable", Noun: admin.Clients, Verb: "client enable",
		Summary: "Let a disabled client in again."},
		func(c ctx, o ops, by who, in ByID) (admin.Client, error) { return o.EnableClient(c, by, in.ID) })
	RotateClientSecret = add(Spec{Method: "POST", Path: "/clients/{id}/rotate-secret", Noun: admin.Clients,
		Verb: "client rotate-secret", Destroys: true, Summary: "Give a client a new secret, which is in the answer, " +
			"this once; the old one lives on for a while."},
		func(c ctx, o ops, by who, in Change[*Overlap]) (admin.Client, error) {
			lives := admin.SecretOverlap
			if in.Body != nil && in.Body.Overlap != nil {
				lives = time.Duration(*in.Body.Overlap)
			}
			return o.RotateClientSecret(c, by, in.ID, lives)
		})
)

// NewInitialToken describes an initial access token to create.
type NewInitialToken struct {
	Name    string     `json:"name,omitempty"`
	MaxUses int        `json:"max_uses,omitempty" jsonschema:"how many clients it may register; 0 is any number"`
	TTL     admin.Span `json:"ttl,omitempty" jsonschema:"how long it lives, in seconds; 0 is for ever"`
}

// Initial access tokens, with which clients register.
var (
	ListInitialAccessTokens = add(Spec{Method: "GET", Path: "/initial_access_tokens", Noun: admin.InitialAccessTokens,
		Verb: "initial-access-token list", Summary: "List the tokens with which clients register."},
		func(c ctx, o ops, by who, in Listing) (Page[admin.InitialAccessToken], error) {
			return paged(o.InitialAccessTokens(c, by, in.page()))
		})
	CreateInitialAccessToken = add(Spec{Method: "POST", Path: "/initial_access_tokens", Noun: admin.InitialAccessTokens,
		Verb: "initial-access-token create", Status: http.StatusCreated, Required: "name",
		Summary: "Make a token with which clients register; it is in the answer, this once."},
		func(c ctx, o ops, by who, in Creation[NewInitialToken]) (admin.InitialAccessToken, error) {
			return o.CreateInitialAccessToken(c, by, in.Body.Name, in.Body.MaxUses, time.Duration(in.Body.TTL))
		})
	ShowInitialAccessToken = add(Spec{Method: "GET", Path: "/initial_access_tokens/{id}",
		Noun: admin.InitialAccessTokens, Verb: "initial-access-token show",
		Summary: "Show such a token, but for what opens with it."},
		func(c ctx, o ops, by who, in ByID) (admin.InitialAccessToken, error) {
			return o.InitialAccessToken(c, by, in.ID)
		})
	RevokeInitialAccessToken = add(Spec{Method: "POST", Path: "/initial_access_tokens/{id}/revoke",
		Noun: admin.InitialAccessTokens, Verb: "initial-access-token revoke", Destroys: true,
		Summary: "End such a token; the clients that it registered stay."},
		func(c ctx, o ops, by who, in ByID) (admin.InitialAccessToken, error) {
			return o.RevokeInitialAccessToken(c, by, in.ID)
		})
)

// ByPasskey names a person and a passkey of theirs.
type ByPasskey struct {
	ByID
	Passkey string `path:"passkey" doc:"The id of the passkey."`
}

// NewPassword is the input of ResetPassword.
type NewPassword struct {
	Password   string `json:"password,omitempty" jsonschema:"if it is not given, the answer has a link with which the person sets one"`
	KeepGrants bool   `json:"keep_grants,omitempty" jsonschema:"whether the person's agents stay connected"`
}

// People.
var (
	ListUsers = add(Spec{Method: "GET", Path: "/users", Noun: admin.Users, Verb: "user list",
		Summary: "List the accounts, oldest first."},
		func(c ctx, o ops, by who, in Search) (Page[admin.User], error) {
			return paged(o.Users(c, by, in.page()))
		})
	CreateUser = add(Spec{Method: "POST", Path: "/users", Noun: admin.Users, Verb: "user create",
		Status: http.StatusCreated, Required: "email password",
		Summary: "Make an account."},
		func(c ctx, o ops, by who, in Creation[admin.NewUser]) (admin.User, error) {
			return o.CreateUser(c, by, in.Body)
		})
	ShowUser = add(Spec{Method: "GET", Path: "/users/{id}", Noun: admin.Users, Verb: "user show",
		Summary: "Show an account by its id or e-mail address."},
		func(c ctx, o ops, by who, in ByID) (admin.UserDetail, error) { return o.User(c, by, in.ID) })
	UpdateUser = add(Spec{Method: "PATCH", Path: "/users/{id}", Noun: admin.Users, Verb: "user update",
		Summary: "Change a person's name or role."},
		func(c ctx, o ops, by who, in Change[admin.UserTerms]) (admin.User, error) {
			return o.UpdateUser(c, by, in.ID, in.Body)
		})
	DeleteUser = add(Spec{Method: "DELETE", Path: "/users/{id}", Noun: admin.Users, Verb: "user delete", Destroys: true,
		Summary: "Delete an account, and end everything that the person allowed."},
		func(c ctx, o ops, by who, in ByID) (admin.Deletion, error) { return o.DeleteUser(c, by, in.ID) })
	DisableUser = add(Spec{Method: "POST", Path: "/users/{id}/disable", Noun: admin.Users, Verb: "user disable",
		Destroys: true, Summary: "Shut an account, until it is enabled: the person is signed out, and the tokens of " +
			"their agents are refused."},
		func(c ctx, o ops, by who, in ByID) (admin.User, error) { return o.DisableUser(c, by, in.ID) })
	EnableUser = add(Spec{Method: "POST", Path: "/users/{id}/enable", Noun: admin.Users, Verb: "user enable",
		Summary: "Open a disabled account again."},
		func(c ctx, o ops, by who, in ByID) (admin.User, error) { return o.EnableUser(c, by, in.ID) })
	ResetSecondFactor = add(Spec{Method: "POST", Path: "/users/{id}/reset-second-factor", Noun: admin.Users,
		Verb: "user reset-second-factor", Destroys: true,
		Summary: "Delete the second factor of a person who has lost it, passkeys included, and sign the person out."},
		func(c ctx, o ops, by who, in ByID) (admin.User, error) { return o.ResetSecondFactor(c, by, in.ID) })
	RemovePasskey = add(Spec{Method: "DELETE", Path: "/users/{id}/passkeys/{passkey}", Noun: admin.Users,
		Verb: "user remove-passkey", Destroys: true,
		Summary: "Delete a passkey of a person who has lost the device that keeps it, and sign the person out."},
		func(c ctx, o ops, by who, in ByPasskey) (admin.UserDetail, error) {
			return o.RemovePasskey(c, by, in.ID, in.Passkey)
		})
	ResetPassword = add(Spec{Method: "POST", Path: "/users/{id}/reset-password", Noun: admin.Users,
		Verb: "user reset-password", Destroys: true,
		Summary: "Set a new password, or make a link with which the person does. A new password ends the person's " +
			"sessions and, unless told otherwise, grants."},
		func(c ctx, o ops, by who, in Change[*NewPassword]) (admin.PasswordReset, error) {
			if in.Body == nil {
				in.Body = &NewPassword{}
			}
			if in.Body.Password == "" {
				return o.PasswordLink(c, by, in.ID, admin.OldGrants(in.Body.KeepGrants))
			}
			return o.ResetPassword(c, by, in.ID, in.Body.Password, admin.OldGrants(in.Body.KeepGrants))
		})
)

// Invitations.
var (
	InviteUser = add(Spec{Method: "POST", Path: "/users/invite", Noun: admin.Users, Verb: "user invite",
		Status: http.StatusCreated, Required: "email",
		Summary: "Invite a person to make an account; the link is in the answer, this once."},
		func(c ctx, o ops, by who, in Creation[admin.NewInvitation]) (admin.Invitation, error) {
			return o.Invite(c, by, in.Body)
		})
	ListInvitations = add(Spec{Method: "GET", Path: "/invitations", Noun: admin.Invitations, Verb: "invitation list",
		Summary: "List the invitations that nobody has used, oldest first."},
		func(c ctx, o ops, by who, in Listing) (Page[admin.Invitation], error) {
			return paged(o.Invitations(c, by, in.page()))
		})
	ShowInvitation = add(Spec{Method: "GET", Path: "/invitations/{id}", Noun: admin.Invitations,
		Verb: "invitation show", Summary: "Show an invitation by its id or e-mail address, but for its link."},
		func(c ctx, o ops, by who, in ByID) (admin.Invitation, error) { return o.Invitation(c, by, in.ID) })
	ResendInvitation = add(Spec{Method: "POST", Path: "/invitations/{id}/resend", Noun: admin.Invitations,
		Verb: "invitation resend", Destroys: true,
		Summary: "Give an invitation a new link, which is in the answer, this once; the old one ends."},
		func(c ctx, o ops, by who, in ByID) (admin.Invitation, error) { return o.ResendInvitation(c, by, in.ID) })
	WithdrawInvitation = add(Spec{Method: "DELETE", Path: "/invitations/{id}", Noun: admin.Invitations,
		Verb: "invitation withdraw", Destroys: true, Summary: "End an invitation."},
		func(c ctx, o ops, by who, in ByID) (admin.Deletion, error) { return o.WithdrawInvitation(c, by, in.ID) })
)

// NewGroup describes a group to create.
type NewGroup struct {
	Name string `json:"name"`
	admin.GroupTerms
}

// ByName, GroupMembers, GroupChange and Membership are the inputs of operations on one group.
type (
	// ByName names it.
	ByName struct {
		Name string `path:"name"`
	}
	// GroupMembers names it and a page of its members.
	GroupMembers struct {
		Listing
		Name string `path:"name"`
	}
	// GroupChange names it and has its new terms.
	GroupChange struct {
		Name string `path:"name"`
		Body admin.GroupTerms
	}
	// Membership names it and one person.
	Membership struct {
		Name string `path:"name"`
		User string `path:"user" doc:"The person's id or e-mail address."`
	}
)

// Members is a group with a page of its members.
type Members struct {
	admin.GroupMembers
	Next string `json:"next,omitempty" jsonschema:"the cursor of the next page of members; absent on the last one"`
}

func (m Members) tagged() any { return m.GroupMembers }

func (m Members) sealed(seal func(string) string) any {
	if m.Next != "" {
		m.Next = seal(m.Next)
	}
	return m
}

// Groups.
var (
	ListGroups = add(Spec{Method: "GET", Path: "/groups", Noun: admin.Groups, Verb: "group list",
		Summary: "List the groups, oldest first."},
		func(c ctx, o ops, by who, in Search) (Page[admin.Group], error) {
			return paged(o.Groups(c, by, in.page()))
		})
	CreateGroup = add(Spec{Method: "POST", Path: "/groups", Noun: admin.Groups, Verb: "group create",
		Status: http.StatusCreated, Required: "name", Summary: "Make an empty group."},
		func(c ctx, o ops, by who, in Creation[NewGroup]) (admin.Group, error) {
			return o.CreateGroup(c, by, in.Body.Name, in.Body.GroupTerms)
		})
	ShowGroup = add(Spec{Method: "GET", Path: "/groups/{name}", Noun: admin.Groups, Verb: "group show",
		Summary: "Show a group with its members, in the order in which they were added."},
		func(c ctx, o ops, by who, in GroupMembers) (Members, error) {
			view, next, err := o.Group(c, by, in.Name, in.page())
			return Members{view, next}, err
		})
	UpdateGroup = add(Spec{Method: "PATCH", Path: "/groups/{name}", Noun: admin.Groups, Verb: "group update",
		Summary: "Change what a group is described as, or whether its members need a second factor."},
		func(c ctx, o ops, by who, in GroupChange) (admin.Group, error) {
			return o.UpdateGroup(c, by, in.Name, in.Body)
		})
	DeleteGroup = add(Spec{Method: "DELETE", Path: "/groups/{name}", Noun: admin.Groups, Verb: "group delete",
		Destroys: true, Summary: "Delete a group; the people in it stay."},
		func(c ctx, o ops, by who, in ByName) (admin.Deletion, error) { return o.DeleteGroup(c, by, in.Name) })
	AddMember = add(Spec{Method: "PUT", Path: "/groups/{name}/members/{user}", Noun: admin.Groups, Verb: "group add",
		Summary: "Put a person into a group."},
		func(c ctx, o ops, by who, in Membership) (admin.Membership, error) {
			return o.AddMember(c, by, in.Name, in.User)
		})
	RemoveMember = add(Spec{Method: "DELETE", Path: "/groups/{name}/members/{user}", Noun: admin.Groups,
		Verb: "group remove", Destroys: true, Summary: "Take a person out of a group."},
		func(c ctx, o ops, by who, in Membership) (admin.Membership, error) {
			return o.RemoveMember(c, by, in.Name, in.User)
		})
)

// GrantListing is the input of ListGrants.
type GrantListing struct {
	Listing
	ByQ
	User     string `query:"user" doc:"Only of this person, by id or e-mail address."`
	Client   string `query:"client" doc:"Only of this client."`
	Resource string `query:"resource" doc:"Only at this MCP server, by id or identifier."`
	Live     bool   `query:"live" doc:"Only those that still allow something."`
}

// Grants.
var (
	ListGrants = add(Spec{Method: "GET", Path: "/grants", Noun: admin.Grants, Verb: "grant list",
		Summary: "List what people have allowed clients, oldest first."},
		func(c ctx, o ops, by who, in GrantListing) (Page[admin.Grant], error) {
			if in.Q != "" {
				alone := in == GrantListing{Listing: in.Listing, ByQ: in.ByQ}
				return one(alone, func() (admin.Grant, error) { return o.Grant(c, by, in.Q) })
			}
			return paged(o.Grants(c, by,
				admin.GrantQuery{User: in.User, Client: in.Client, Resource: in.Resource, Live: in.Live}, in.page()))
		})
	ShowGrant = add(Spec{Method: "GET", Path: "/grants/{id}", Noun: admin.Grants, Verb: "grant show",
		Summary: "Show what a person allowed a client."},
		func(c ctx, o ops, by who, in ByID) (admin.Grant, error) { return o.Grant(c, by, in.ID) })
	RevokeGrant = add(Spec{Method: "POST", Path: "/grants/{id}/revoke", Noun: admin.Grants, Verb: "grant revoke",
		Destroys: true, Summary: "End a grant: its tokens are refused from now on."},
		func(c ctx, o ops, by who, in ByID) (admin.Revocation, error) { return o.RevokeGrant(c, by, in.ID) })
)

// SessionListing is the input of ListSessions.
type SessionListing struct {
	Listing
	ByQ
	User string `query:"user" doc:"Only of this person, by id or e-mail address."`
}

// Sessions.
var (
	ListSessions = add(Spec{Method: "GET", Path: "/sessions", Noun: admin.Sessions, Verb: "session list",
		Summary: "List the browsers in which people are signed in."},
		func(c ctx, o ops, by who, in SessionListing) (Page[admin.Session], error) {
			if in.Q != "" {
				return one(in.User == "", func() (admin.Session, error) { return o.Session(c, by, in.Q) })
			}
			return paged(o.Sessions(c, by, in.User, in.page()))
		})
	ShowSession = add(Spec{Method: "GET", Path: "/sessions/{id}", Noun: admin.Sessions, Verb: "session show",
		Summary: "Show a browser in which a person is signed in."},
		func(c ctx, o ops, by who, in ByID) (admin.Session, error) { return o.Session(c, by, in.ID) })
	RevokeSession = add(Spec{Method: "POST", Path: "/sessions/{id}/revoke", Noun: admin.Sessions,
		Verb: "session revoke", Destroys: true,
		Summary: "Sign a person out of a browser; their agents stay connected."},
		func(c ctx, o ops, by who, in ByID) (admin.EndedSession, error) { return o.RevokeSession(c, by, in.ID) })
)

// Keys.
var (
	ListKeys = add(Spec{Method: "GET", Path: "/keys", Noun: admin.Keys, Verb: "key list",
		Summary: "List the signing keys, oldest first."},
		func(c ctx, o ops, by who, in Search) (Page[keys.Info], error) {
			infos, err := o.Keys(c, by)
			return Page[keys.Info]{Items: beginning(infos, in.Q, func(k keys.Info) string { return k.KID })}, err
		})
	RotateKey = add(Spec{Method: "POST", Path: "/keys/rotate", Noun: admin.Keys, Verb: "key rotate",
		Status: http.StatusCreated, Summary: "Publish a new signing key."},
		func(c ctx, o ops, by who, in Creation[*admin.Rotation]) (keys.Info, error) {
			if in.Body == nil {
				in.Body = &admin.Rotation{}
			}
			return o.RotateKey(c, by, *in.Body)
		})
	ShowKey = add(Spec{Method: "GET", Path: "/keys/{kid}", Noun: admin.Keys, Verb: "key show",
		Summary: "Show a signing key."},
		func(c ctx, o ops, by who, in ByKID) (keys.Info, error) { return o.Key(c, by, in.KID) })
	RetireKey = add(Spec{Method: "POST", Path: "/keys/{kid}/retire", Noun: admin.Keys, Verb: "key retire",
		Destroys: true, Summary: "Take a key out of the key set at once: every token it signed is refused."},
		func(c ctx, o ops, by who, in ByKID) (keys.Info, error) { return o.RetireKey(c, by, in.KID) })
)

// TokenText is the input of InspectToken.
type TokenText struct {
	Token string `json:"token"`
}

// InspectToken explains a token. It is no GET, because addresses are logged.
var InspectToken = add(Spec{Method: "POST", Path: "/tokens/inspect", Noun: admin.Keys, Verb: "token inspect",
	Reads: true, Required: "token", Summary: "Decode and verify a token, and explain why it is or is not accepted."},
	func(c ctx, o ops, by who, in Creation[TokenText]) (*admin.Inspection, error) {
		return o.InspectToken(c, by, in.Body.Token)
	})

// EventListing is the input of ListEvents.
type EventListing struct {
	Listing
	ByQ
	Action    string    `query:"action" doc:"Only those whose action begins like this."`
	User      string    `query:"user" doc:"Only of this person, by id or e-mail address."`
	Client    string    `query:"client" doc:"Only of this client."`
	Grant     string    `query:"grant" doc:"Only of this grant."`
	Actor     string    `query:"actor" doc:"Only what this person, client or command asked for, by id, or by type and id, such as command:ada."`
	Resource  string    `query:"resource" doc:"Only about this MCP server, by id or identifier."`
	Address   string    `query:"address" doc:"Only from this network address."`
	RequestID string    `query:"request_id" doc:"Only of this request."`
	Outcome   string    `query:"outcome" enum:"allowed,refused,failed,wrong" doc:"Only those with this outcome; wrong is refused or failed."`
	Since     time.Time `query:"since" doc:"Only from this time on."`
	Until     time.Time `query:"until" doc:"Only before this time."`
	Oldest    bool      `query:"oldest" doc:"The oldest first."`
}

// ListSettings is the only operation on the configuration, which cannot be changed while the server runs.
var ListSettings = add(Spec{Method: "GET", Path: "/settings", Noun: admin.Settings, Verb: "config print",
	Summary: "Show the effective configuration of the server that answers, and where each value comes from. Secrets " +
		"are masked."},
	func(c ctx, o ops, by who, in Search) (Page[admin.Setting], error) {
		settings, err := o.Settings(c, by)
		return Page[admin.Setting]{Items: beginning(settings, in.Q, func(s admin.Setting) string { return s.Key })}, err
	})

// Identity providers, which the configuration names.
var (
	ListProviders = add(Spec{Method: "GET", Path: "/providers", Noun: admin.Providers, Verb: "provider list",
		Summary: "List the identity providers in the configuration of the server that answers."},
		func(c ctx, o ops, by who, in Search) (Page[admin.Provider], error) {
			providers, err := o.Providers(c, by)
			return Page[admin.Provider]{
				Items: beginning(providers, in.Q, func(p admin.Provider) string { return p.ID })}, err
		})
	ShowProvider = add(Spec{Method: "GET", Path: "/providers/{id}", Noun: admin.Providers, Verb: "provider show",
		Summary: "Show an identity provider."},
		func(c ctx, o ops, by who, in ByID) (admin.Provider, error) { return o.Provider(c, by, in.ID) })
	TestProvider = add(Spec{Method: "POST", Path: "/providers/{id}/test", Noun: admin.Providers,
		Verb: "provider test", Reads: true,
		Summary: "Try what a sign-in with an identity provider needs, as far as that is possible without a person."},
		func(c ctx, o ops, by who, in ByID) (admin.ProviderTest, error) { return o.TestProvider(c, by, in.ID) })
)

// FlowOf names the event whose flow ShowFlow returns.
type FlowOf struct {
	Listing
	ID string `path:"id"`
}

// Flow is a page of the flow of an event.
type Flow struct{ admin.Flow }

func (f Flow) sealed(seal func(string) string) any {
	if f.Next != "" {
		f.Next = seal(f.Next)
	}
	return f
}

// Events: the audit log.
var (
	ShowEvent = add(Spec{Method: "GET", Path: "/events/{id}", Noun: admin.Events, Verb: "audit show",
		Summary: "Show an event of the audit log."},
		func(c ctx, o ops, by who, in ByID) (admin.Event, error) { return o.Event(c, by, in.ID) })
	ShowFlow = add(Spec{Method: "GET", Path: "/events/{id}/flow", Noun: admin.Events, Verb: "audit flow",
		Summary: "Tell all that belongs to an event: the events of its grant and of the same requests, " +
			"the oldest first."},
		func(c ctx, o ops, by who, in FlowOf) (Flow, error) {
			flow, err := o.Flow(c, by, in.ID, in.page())
			return Flow{flow}, err
		})
	ListEvents = add(Spec{Method: "GET", Path: "/events", Noun: admin.Events, Verb: "audit list",
		Summary: "List the audit log, newest first."},
		func(c ctx, o ops, by who, in EventListing) (Page[admin.Event], error) {
			if in.Q != "" {
				alone := in == EventListing{Listing: in.Listing, ByQ: in.ByQ}
				return one(alone, func() (admin.Event, error) { return o.Event(c, by, in.Q) })
			}
			page := in.page()
			page.Newest = !in.Oldest
			return paged(o.Events(c, by,
				store.EventFilter{Action: in.Action, ClientID: in.Client, UserID: in.User, GrantID: in.Grant,
					Actor: in.Actor, Resource: in.Resource, Address: in.Address, RequestID: in.RequestID,
					Outcome: audit.Outcome(in.Outcome), Since: in.Since, Until: in.Until}, page))
		})
)
