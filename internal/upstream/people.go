package upstream

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Entry is a person who has signed in at a provider, and their account here. Find makes it and Enter writes it.
type Entry struct {
	Person *Person
	User   *identity.User // to be created if New is set
	New    bool

	config  Config
	known   *identity.Identity // nil: it is connected with User from now on
	connect bool               // because User, who is signed in, asked for it
}

// ErrChanged means that an Entry does not hold any more: what it was made from has changed.
var ErrChanged = errors.New("upstream: the account has changed since it was looked up")

// Find returns the account of a person who has signed in with the provider that c describes: the one that is connected
// with the provider's account, or one that is joined by an address that is verified on both sides, or a new one. It
// refuses a person whom c does not let in.
func (c Config) Find(tx *store.Tx, who *Person) (*Entry, error) {
	e := &Entry{Person: who, config: c}
	key := identity.EmailKey(who.Email)
	err := c.admit(who)
	if err != nil {
		return nil, err
	}
	if e.known, err = tx.Identity(c.ID, who.Issuer, who.Subject); err == nil {
		e.User, err = tx.User(e.known.UserID)
	} else if errors.Is(err, store.ErrNotFound) {
		e.User, err = c.byAddress(tx, who, key)
	}
	switch {
	case errors.Is(err, store.ErrNotFound) && c.Create:
		e.New = true
		e.User, err = newUser(tx, who, key)
	case errors.Is(err, store.ErrNotFound):
		return nil, oauth.Refuse(oauth.AccessDenied, "no account here is connected with this account of %s: sign in "+
			"another way, or ask the administrator of this server for an account", c.Label())
	}
	switch {
	case err != nil:
		return nil, err
	case e.User.Disabled():
		return nil, errDisabled
	}
	return e, nil
}

// admit refuses a person whose address is not of the domains of the provider, or whose id there cannot be told from
// another one, because databases store its characters as others.
func (c Config) admit(who *Person) error {
	if !web.IsText(who.Subject) {
		return oauth.Refuse(oauth.AccessDenied,
			"your account of %s has an id with characters that cannot be stored here", c.Label())
	}
	if len(c.Domains) > 0 && (!who.Verified || !c.Serves(identity.EmailKey(who.Email))) {
		return oauth.Refuse(oauth.AccessDenied,
			"only people with a verified e-mail address at %s can sign in with %s here",
			identity.DomainsOf(c.Domains), c.Label())
	}
	return nil
}

var errDisabled = oauth.Refuse(oauth.AccessDenied,
	"your account here is disabled: ask the administrator of this server")

// byAddress returns the account that a person may join by a verified address, or store.ErrNotFound. An account that is
// connected with the provider already belongs to another person there.
func (c Config) byAddress(tx *store.Tx, who *Person, key string) (*identity.User, error) {
	if c.Link != LinkVerified || !who.Verified || key == "" {
		return nil, store.ErrNotFound
	}
	u, err := tx.UserByEmail(key)
	if err != nil {
		return nil, err
	}
	identities, err := tx.Identities(u.ID)
	if err != nil {
		return nil, err
	}
	if u.EmailVerifiedAt.IsZero() || !identity.SameMailbox(u.Email, who.Email) ||
		slices.ContainsFunc(identities, c.ours) {
		return nil, store.ErrNotFound
	}
	return u, nil
}

// ours reports whether an identity is one of the provider.
func (c Config) ours(i *identity.Identity) bool { return i.Provider == c.ID }

// newUser returns an account for a person. It has the person's address only if that is verified, nobody else's, and not
// one that people could take for another, because operators and rules find people by their address.
func newUser(tx *store.Tx, who *Person, key string) (*identity.User, error) {
	u := &identity.User{ID: oauth.NewID("usr_"), Name: who.DisplayName(), CreatedAt: tx.Now()}
	email, ok := identity.Email(who.Email)
	if !ok || !who.Verified {
		return u, nil
	}
	_, err := tx.UserByEmail(key)
	if errors.Is(err, store.ErrNotFound) {
		u.Email, err = email, nil
	}
	return u, err
}

// DisplayName returns the name of the person as one that they may have here (identity.IsName).
func (p *Person) DisplayName() string { return oneLine(p.Name) }

// oneLine returns a name that somebody else chose as one line of at most identity.MaxName bytes.
func oneLine(name string) string {
	name = strings.TrimSpace(identity.Line(name))
	return strings.ToValidUTF8(name[:min(len(name), identity.MaxName)], "")
}

// Connect returns the entry that connects the account of a person at the provider with a user who is signed in. It
// refuses one that is connected with another user or that c does not let in, and a second one of the same user.
func (c Config) Connect(tx *store.Tx, who *Person, userID string) (*Entry, error) {
	e := &Entry{Person: who, config: c, connect: true}
	err := c.admit(who)
	if err != nil {
		return nil, err
	}
	if e.User, err = tx.User(userID); err != nil {
		return nil, err
	}
	e.known, err = tx.Identity(c.ID, who.Issuer, who.Subject)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return e, c.first(tx, userID)
	case err != nil:
		return nil, err
	case e.known.UserID != userID:
		return nil, c.errTaken()
	}
	return e, nil
}

// first refuses a user who is connected with an account at the provider, because each of the two would decide about the
// same groups.
func (c Config) first(tx *store.Tx, userID string) error {
	identities, err := tx.Identities(userID)
	if err == nil && slices.ContainsFunc(identities, c.ours) {
		err = oauth.Refuse(oauth.InvalidRequest,
			"your account here is connected with another account of %s: disconnect that one first",
			c.Label())
	}
	return err
}

// Invited returns the entry of u, the account of an invitation that is about to be made, whether or not c creates
// accounts. It refuses a person whom c does not let in, or whose account at the provider is connected with an account
// here.
func (c Config) Invited(tx *store.Tx, who *Person, u *identity.User) (*Entry, error) {
	if err := c.admit(who); err != nil {
		return nil, err
	}
	_, err := tx.Identity(c.ID, who.Issuer, who.Subject)
	if err == nil {
		return nil, c.errTaken()
	}
	if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	return &Entry{Person: who, User: u, New: true, config: c}, nil
}

// errTaken refuses an account at the provider that belongs to another one here.
func (c Config) errTaken() error {
	return oauth.Refuse(oauth.AccessDenied, "this account of %s is connected with another account here", c.Label())
}

// Add writes the entry of Invited in the transaction that has made its account: the connection, and the groups. It
// returns ErrChanged if somebody else was faster.
func (e *Entry) Add(tx *store.Tx, vault Vault) error { return e.connected(tx, vault) }

// Disconnect deletes an identity, takes its user out of the groups that its provider put them into, and records it. It
// returns store.ErrNotFound if the identity is gone.
func Disconnect(tx *store.Tx, i *identity.Identity) error {
	if err := tx.DeleteIdentity(i.ID, i.UserID); err != nil {
		return err
	}
	e := &Entry{User: &identity.User{ID: i.UserID}, config: Config{ID: i.Provider}}
	if err := e.join(tx, i.Groups, nil); err != nil {
		return err
	}
	return e.record(tx, audit.Identity("disconnect", i.UserID))
}

// Enter writes the entry in tx: the account if it is new, its connection with the provider's account, and its groups.
// It returns ErrChanged if Find would return another entry by now. Afterwards no other transaction can disable or
// delete the account until tx ends.
func (e *Entry) Enter(tx *store.Tx, vault Vault) error {
	if e.connect { // so that the user does not connect two at once
		if _, err := tx.LockUser(e.User.ID); err != nil {
			return changed(err)
		}
	}
	again, err := e.again(tx)
	switch {
	case err != nil:
		return err
	case again.New != e.New, (again.known == nil) != (e.known == nil), !e.New && again.User.ID != e.User.ID,
		e.New && again.User.Email != e.User.Email:
		return ErrChanged
	}
	if e.New {
		e.User.CreatedAt = tx.Now()
		if err := changed(tx.CreateUser(e.User)); err != nil {
			return err
		}
		if err := e.record(tx, audit.User("create", e.User.ID)); err != nil {
			return err
		}
	}
	u, err := tx.LockUser(e.User.ID)
	switch {
	case err != nil:
		return changed(err)
	case u.Disabled():
		return errDisabled
	}
	return e.connected(tx, vault)
}

// again finds the entry once more.
func (e *Entry) again(tx *store.Tx) (*Entry, error) {
	if e.connect {
		return e.config.Connect(tx, e.Person, e.User.ID)
	}
	return e.config.Find(tx, e.Person)
}

// connected writes the identity of the entry and the groups of its user.
func (e *Entry) connected(tx *store.Tx, vault Vault) error {
	known := e.known
	if known == nil {
		known = &identity.Identity{ID: oauth.NewID("idn_"), Provider: e.config.ID, Issuer: e.Person.Issuer,
			Subject: e.Person.Subject, UserID: e.User.ID, CreatedAt: tx.Now(), UsedAt: tx.Now(), ConfirmedAt: tx.Now()}
	}
	before := known.Groups
	known.Email = e.Person.Email
	if e.config.GroupMap != nil {
		known.Groups = e.groups()
	}
	var err error
	if known.Credential, err = e.sealed(vault, known.ID); err != nil {
		return err
	}
	if e.known == nil {
		err = tx.CreateIdentity(known)
		if err == nil && !e.New {
			err = e.record(tx, audit.Identity("connect", e.User.ID))
		}
	} else {
		err = tx.UseIdentity(known)
	}
	if err != nil {
		return changed(err)
	}
	if e.config.GroupMap == nil { // it says nothing of groups
		return nil
	}
	return e.join(tx, before, known.Groups)
}

// changed returns ErrChanged for an error that means that somebody else was faster.
func changed(err error) error {
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
		return ErrChanged
	}
	return err
}

// groups returns the names of the groups here to which the provider says that the person belongs.
func (e *Entry) groups() []string {
	var names []string
	for _, there := range e.Person.Groups {
		if here, ok := e.config.GroupMap[there]; ok {
			names = append(names, here)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// join puts the user into the groups of now, and takes the user out of those that the provider decides about and that
// are not among them: all in Config.GroupMap, and those of before.
func (e *Entry) join(tx *store.Tx, before, now []string) error {
	decided := slices.Clone(before)
	for _, name := range e.config.GroupMap {
		decided = append(decided, name)
	}
	decided = append(decided, now...)
	slices.Sort(decided)
	for _, name := range slices.Compact(decided) {
		group, err := tx.LockGroup(name)
		if errors.Is(err, store.ErrNotFound) { // deleted since the start
			continue
		}
		if err != nil {
			return err
		}
		verb, do := "remove", tx.RemoveMember
		if slices.Contains(now, name) {
			verb, do = "add", tx.AddMember
		}
		did, err := do(group.ID, e.User.ID)
		if err == nil && did {
			err = e.record(tx, audit.Group(verb, name, e.User.ID))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// record records a change that follows from the sign-in.
func (e *Entry) record(tx *store.Tx, event audit.Event) error {
	event.Actor = audit.Actor{Type: audit.ByUser, ID: e.User.ID}
	return tx.Record(event.With("provider", e.config.ID).Allow())
}

// sealed returns the credential with which the provider is asked about the person later, or "" if it is not asked.
func (e *Entry) sealed(vault Vault, id string) (string, error) {
	if !e.config.CheckAtRefresh {
		return "", nil
	}
	return seal(vault, id, e.Person.credential)
}

// Vault seals what must be readable later, for a place in the database (keys.Master).
type Vault struct {
	Seal func(place string, plain []byte) (string, error)
	Open func(place, sealed string) ([]byte, error)
}

func seal(vault Vault, id string, c credential) (string, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	return vault.Seal("identities "+id, plain)
}

// unseal returns the credential that seal sealed.
func unseal(vault Vault, i *identity.Identity) (c credential, err error) {
	if i.Credential == "" {
		return c, nil
	}
	plain, err := vault.Open("identities "+i.ID, i.Credential)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(plain, &c)
}

// or returns the new credential, with the refresh token of the old one if the provider sent none, which means that the
// old one stays in use (RFC 6749 §6).
func (c credential) or(old credential) credential {
	c.Refresh = cmp.Or(c.Refresh, old.Refresh)
	return c
}
