package admin

import (
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// Caller is the person, client or command that asks for an operation, with its rights. The
// address of the caller is in the audit.Request of the context. The zero Caller may do nothing.
type Caller struct {
	Actor audit.Actor
	// Role is the role of a person; "" for others.
	Role Role
	// Scopes are those of the access token that a program presented, for itself or
	// for a person; nil if there was none.
	Scopes scope.Set
}

// Command returns the caller for a command that runs on the machine of the installation
// and may do everything. id is the account of the operating system.
func Command(id, name string) Caller {
	return Caller{Actor: audit.Actor{Type: audit.ByCommand, ID: id, Name: name}}
}

// Noun is a kind of record that operations work on, by its name in the paths of the API
// and in the scopes of its tokens.
type Noun string

// The nouns.
const (
	Resources Noun = "resources"
	Clients   Noun = "clients" // and their profiles
	Users     Noun = "users"
	Grants    Noun = "grants"
	Sessions  Noun = "sessions"
	Keys      Noun = "keys" // and what they signed
	Events    Noun = "events"
	// InitialAccessTokens need the rights of Clients.
	InitialAccessTokens Noun = "initial_access_tokens"
)

// one returns the noun in the singular, which the actions of events begin with.
func (n Noun) one() string { return string(n[:len(n)-1]) }

// access is the kind of access to a noun.
type access string

const (
	read  access = "read"
	write access = "write" // it includes read
)

// Role says what a person may do. "" lets a person do nothing.
type Role string

// The roles.
const (
	Owner    Role = "owner"
	Operator Role = "operator"
	Auditor  Role = "auditor"
)

// rights are the nouns that each role may read or write.
var rights = map[Role]map[access][]Noun{
	Owner: {
		write: {Resources, Clients, Users, Grants, Sessions, Keys, Events},
	},
	Operator: {
		write: {Resources, Clients, Grants, Sessions},
		read:  {Users, Keys, Events},
	},
	Auditor: {
		read: {Resources, Clients, Users, Grants, Sessions, Keys, Events},
	},
}

// may returns nil if the caller has the right. Otherwise it returns a refusal that says
// what is missing. A person who acts through a client needs both the role and the scope.
func (c Caller) may(noun Noun, to access) error {
	if noun == InitialAccessTokens {
		noun = Clients
	}
	needs := "cardea:" + string(noun) + ":"
	switch {
	case c.Actor.Type == audit.ByCommand:
		return nil
	case c.Actor.Type == audit.ByUser && !c.Role.may(noun, to):
		return forbidden("your role does not let you %s %s; ask an owner of this installation", to, noun)
	case c.Actor.Type == audit.ByUser && c.Scopes == nil:
		return nil
	case c.Actor.Type != audit.ByUser && c.Actor.Type != audit.ByClient:
		return forbidden("this needs a person or a client that has proved who it is; sign in first")
	case c.Scopes.Covers(needs + string(to)), c.Scopes.Covers(needs + string(write)):
		return nil
	}
	return forbidden("the access token lacks the scope %s%s; ask for one that has it", needs, to)
}

func (r Role) may(noun Noun, to access) bool {
	return slices.Contains(rights[r][write], noun) || to == read && slices.Contains(rights[r][read], noun)
}

func forbidden(format string, args ...any) error {
	e := &Error{Kind: Forbidden, format: format, args: args}
	e.cause = oauth.Refuse(oauth.AccessDenied, "%s", e.Error())
	return e
}
