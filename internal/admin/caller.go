package admin

import (
	"cmp"
	"errors"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// Caller is the person, client or command that asks for an operation, with its rights. The address of the caller is in
// the audit.Request of the context. The zero Caller may do nothing.
type Caller struct {
	Actor audit.Actor
	// Scopes are those of the access token that a program presented, for itself or for a person; nil if there was none.
	Scopes scope.Set
	// role is a person's, as the transaction has it that judges them.
	role identity.Role
	// counts is that of While; nil for a command.
	counts func(*store.Tx) error
}

// Command returns the caller for a command that runs on the machine of the installation and may do everything. id is
// the account of the operating system.
func Command(id, name string) Caller {
	return Caller{Actor: audit.Actor{Type: audit.ByCommand, ID: id, Name: name}}
}

// Person returns a person as a caller: signed in to the console if scopes is nil, and otherwise through a program whose
// access token has these scopes. What the person may do is decided by the role and the state that their account has in
// the transaction of the operation.
func Person(user *identity.User, scopes scope.Set) Caller {
	return Caller{
		Actor:  audit.Actor{Type: audit.ByUser, ID: user.ID, Name: cmp.Or(user.Name, user.Email)},
		Scopes: scopes,
	}
}

// Program returns a client as a caller, which has proved by an access token of its own that it may do what scopes say.
func Program(clientID, name string, scopes scope.Set) Caller {
	return Caller{Actor: audit.Actor{Type: audit.ByClient, ID: clientID, Name: name}, Scopes: scopes}
}

// While returns c with the right to an operation only if counts returns nil in the transaction of the operation. counts
// must return a refusal, or store.ErrNotFound, once the access token or the session of c has ended, because an
// operation may have waited since then, such as for its turn to hash a password.
func (c Caller) While(counts func(*store.Tx) error) Caller {
	c.counts = counts
	return c
}

// Noun is a kind of record that operations work on, by its name in the paths of the API and in the scopes of its
// tokens.
type Noun string

// The nouns.
const (
	Resources Noun = "resources"
	Clients   Noun = "clients" // and their profiles
	Users     Noun = "users"
	Groups    Noun = "groups" // and who is in them
	Grants    Noun = "grants"
	Sessions  Noun = "sessions"
	Keys      Noun = "keys" // and what they signed
	Providers Noun = "providers"
	Events    Noun = "events"
	Settings  Noun = "settings"
	// InitialAccessTokens need the rights of Clients, and Invitations and Passkeys those of Users.
	InitialAccessTokens Noun = "initial_access_tokens"
	Invitations         Noun = "invitations"
	Passkeys            Noun = "passkeys"
)

// Held returns the noun by whose rights and scopes n is judged.
func (n Noun) Held() Noun {
	switch n {
	case InitialAccessTokens:
		return Clients
	case Invitations, Passkeys:
		return Users
	default:
		return n
	}
}

// Nouns are the nouns that have rights and scopes of their own.
var Nouns = []Noun{Resources, Clients, Users, Groups, Grants, Sessions, Keys, Providers, Events, Settings}

// one returns the noun in the singular, which the actions of events begin with.
func (n Noun) one() string { return string(n[:len(n)-1]) }

// Access is a kind of access to a noun.
type Access string

// The kinds of access.
const (
	Read  Access = "read"
	Write Access = "write" // it includes Read
)

// deeds and called are the kinds of access and the nouns in the words of people.
var (
	deeds  = map[Access]string{Read: "see", Write: "change"}
	called = map[Noun]string{
		Resources: "MCP servers", Clients: "clients", Users: "people's accounts", Groups: "groups",
		Grants: "what people have allowed", Sessions: "sessions", Keys: "the signing keys",
		Providers: "the identity providers", Events: "the audit log", Settings: "the settings",
	}
)

// scopeFor returns the scope with which a client may access noun as to says.
func scopeFor(noun Noun, to Access) string { return "cardea:" + string(noun) + ":" + string(to) }

// rights are the nouns that each role may read or write.
var rights = map[identity.Role]map[Access][]Noun{
	identity.Owner: {
		Write: Nouns,
	},
	identity.Operator: {
		Write: {Resources, Clients, Grants, Sessions},
		Read:  {Users, Groups, Keys, Events},
	},
	identity.Auditor: {
		Read: Nouns,
	},
}

// now returns c with the role that tx has of a person. It refuses a person whose account is deleted or disabled by now,
// and a caller whose access token or session has ended.
func (c Caller) now(tx *store.Tx) (Caller, error) {
	if c.counts != nil {
		if err := c.counts(tx); oauth.IsRefusal(err) || errors.Is(err, store.ErrNotFound) {
			return Caller{}, forbidden("your access has ended meanwhile; sign in again, or ask for a new access token")
		} else if err != nil {
			return Caller{}, err
		}
	}
	if c.Actor.Type != audit.ByUser {
		return c, nil
	}
	u, err := tx.User(c.Actor.ID)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && u.Disabled():
		return Caller{}, forbidden("your account is disabled or deleted; ask an owner of this installation")
	case err != nil:
		return Caller{}, err
	}
	c.role = u.Role
	return c, nil
}

// check returns nil if c, as tx knows it, may access noun as to says. Otherwise it returns a refusal.
func (c Caller) check(tx *store.Tx, noun Noun, to Access) error {
	c, err := c.now(tx)
	if err != nil {
		return err
	}
	return c.may(noun, to)
}

// may returns nil if c, which is what now returned, has the right. Otherwise it returns a refusal that says what is
// missing. A person who acts through a client needs both the role and the scope.
func (c Caller) may(noun Noun, to Access) error {
	noun = noun.Held()
	switch {
	case c.Actor.Type == audit.ByCommand:
		return nil
	case c.Actor.Type == audit.ByUser && !mayRole(c.role, noun, to):
		return forbidden("your role does not let you %s %s; ask an owner of this installation", deeds[to], called[noun])
	case c.Actor.Type == audit.ByUser && c.Scopes == nil:
		return nil
	case c.Actor.Type != audit.ByUser && c.Actor.Type != audit.ByClient:
		return forbidden("this needs a person or a client that has proved who it is; sign in first")
	case c.Scopes.Covers(scopeFor(noun, to)), c.Scopes.Covers(scopeFor(noun, Write)):
		return nil
	}
	err := forbidden("the access token lacks the scope %s; ask for one that has it", scopeFor(noun, to))
	err.Scope = scopeFor(noun, to)
	return err
}

func mayRole(r identity.Role, noun Noun, to Access) bool {
	return slices.Contains(rights[r][Write], noun) || to == Read && slices.Contains(rights[r][Read], noun)
}

// mayRoles returns nil if c, which is what now returned, may give roles and change the accounts of people with a role.
// Only a command or an owner may, because anybody who controls an owner's account has all rights. A client in its own
// name may not, with any scopes.
func (c Caller) mayRoles() error {
	switch {
	case c.Actor.Type == audit.ByCommand, c.Actor.Type == audit.ByUser && c.role == identity.Owner:
		return nil
	case c.Actor.Type == audit.ByUser:
		return forbidden("only an owner of this installation gives roles and changes the accounts of those who have " +
			"one; ask one")
	}
	return forbidden("no access token without a person gives roles or changes the accounts of those who have one; an " +
		"owner does, or a command on the machine")
}

func forbidden(format string, args ...any) *Error {
	e := &Error{Kind: Forbidden, format: format, args: args}
	e.cause = oauth.Refuse(oauth.AccessDenied, "%s", e.Error())
	return e
}
