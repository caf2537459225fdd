package server

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/account"
	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/adminapi"
	"github.com/cardea-auth/cardea/internal/authorize"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/console"
	"github.com/cardea-auth/cardea/internal/discovery"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/registration"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/strangers"
	"github.com/cardea-auth/cardea/internal/token"
	"github.com/cardea-auth/cardea/internal/web"
)

// New puts a server together on a migrated database. It proves the master key (keys.Ring.Check) and makes the first
// signing key.
func New(ctx context.Context, c config.Config, db *store.DB, master keys.Master, log *slog.Logger) (*Server, error) {
	issuer, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("server: issuer: %w", err)
	}
	a := &assembly{issuer: issuer, limits: newLimits(c, db.Now),
		Server: &Server{config: c, db: db, keys: keys.New(db, master), master: master, log: log,
			clock: newClock(db.Now)}}
	for _, step := range []func(context.Context) error{
		a.proveKeys, a.knowClients, a.showPages, a.signIn, a.answerClients, a.keepAccounts, a.administer, a.keepLog,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return a.Server, nil
}

// assembly is a server that New puts together, with what several of its parts need. Each of its steps needs those
// before it.
type assembly struct {
	*Server
	issuer     *url.URL
	limits     limits
	fetches    *strangers.Fetches
	directory  *client.Directory
	clients    *client.Authenticator
	desk       *interaction.Desk
	operations *admin.Operations
}

func (a *assembly) proveKeys(ctx context.Context) error {
	if err := a.keys.Check(ctx); err != nil {
		return err
	}
	return a.keys.Ensure(ctx, a.config.Tokens.SigningAlg)
}

// knowClients finds clients and authenticates them, and records the strangers among them.
func (a *assembly) knowClients(context.Context) (err error) {
	c, db := a.config, a.db
	a.strangers = &strangers.Recorder{DB: db, Failures: a.limits.failures, Recorded: a.limits.recorded}
	a.fetches = &strangers.Fetches{Shares: a.limits.fetches, People: a.limits.people}
	a.fetcher = fetch.New(fetch.Options{AllowLoopback: c.Registration.AllowLoopback, Now: db.Now})
	a.directory = &client.Directory{DB: db, ApprovalRequired: c.Registration.Approval == "required"}
	if c.Registration.CIMD != "off" {
		a.documents, err = client.NewDocuments(db, c.Issuer, policy(c, a.fetches), c.Registration.PinnedDir, a.fetcher,
			a.log)
		if err != nil {
			return err
		}
		a.directory.Documents = a.documents
	}
	a.clients = &client.Authenticator{DB: db, Directory: a.directory, Issuer: c.Issuer,
		Keys:    client.NewKeySets(a.fetcher, db.Now, c.Limits.Enabled),
		Fetches: a.fetches, Assertions: a.limits.assertions, Unused: a.limits.unused}
	return nil
}

// showPages makes what every page needs.
func (a *assembly) showPages(context.Context) error {
	c := a.config
	brand, err := c.Brand.Make()
	if err != nil {
		return err
	}
	a.pages = &web.Pages{Brand: brand, Base: strings.TrimSuffix(a.issuer.Path, "/"),
		Secure: a.issuer.Scheme == "https", CSRFKey: a.master.Derive("csrf"), Refuse: a.strangers.Refuse}
	a.desk = &interaction.Desk{
		Sessions: &interaction.Sessions{DB: a.db, Pages: a.pages, Idle: c.Login.IdleTTL, Max: c.Login.MaxTTL},
		Clients:  a.directory,
		Sealer:   interaction.NewSealer(a.master.Derive("pages")),
		Issuer:   c.Issuer,
	}
	return nil
}

// signIn makes the ways in which people sign in.
func (a *assembly) signIn(ctx context.Context) (err error) {
	c, limits := a.config, a.limits
	a.login = &login.Endpoint{
		DB: a.db, Pages: a.pages, Desk: a.desk, Methods: c.Login.Methods, SecondFactor: c.Login.SecondFactor,
		Issuer: c.Issuer, Name: cmp.Or(c.Brand.Name, a.issuer.Host), Master: a.master, Next: "/consent",
		SignUp: c.Login.SignUp == "open", SignUpDomains: c.Login.SignUpDomains, Setup: c.Admin.Enabled,
		Accounts: limits.accounts, Addresses: limits.addresses,
		External: login.External{URL: c.Login.External.URL, Authenticate: a.clients.Authenticate},
	}
	if c.Mail.On() {
		letters := mailOptions(c)
		letters.Allow, letters.Log = limits.mails.Allow, a.log
		if a.mail, err = mail.New(letters); err != nil {
			return err
		}
		a.login.Mail, a.login.MayAsk = a.mail, limits.mailRequests.Admit
	}
	if err := a.login.UsePasskeys(c.Issuer); err != nil {
		return err
	}
	return a.login.UseProviders(ctx, c.Login.Providers, c.Issuer, a.master.Seal, a.master.Open)
}

// answerClients makes the endpoints of the protocol.
func (a *assembly) answerClients(context.Context) error {
	c := a.config
	a.authorization = &authorize.Endpoint{
		DB: a.db, Desk: a.desk, Strangers: a.strangers, Pages: a.pages, Logos: client.NewLogos(a.fetcher, a.fetches),
		CodeKey: a.master.Derive("code"), CodeTTL: c.Tokens.CodeTTL, GrantMax: c.Tokens.RefreshMaxTTL,
	}
	a.login.External.Deny = a.authorization.Deny
	a.token = &token.Endpoint{
		DB: a.db, Keys: a.keys, Clients: a.clients, Strangers: a.strangers,
		Issuer: c.Issuer, RefreshKey: a.master.RefreshKey(), SigningAlg: c.Tokens.SigningAlg,
		StillKnown: a.login.StillKnown(token.ErrPersonGone),
		Lifetimes: token.Lifetimes{Access: c.Tokens.AccessTTL, RefreshIdle: c.Tokens.RefreshIdleTTL,
			Grace: c.Tokens.RefreshGrace},
	}
	if c.Registration.DCR != "off" {
		a.registration = &registration.Endpoint{
			DB: a.db, Issuer: c.Issuer, Strangers: a.strangers, InitialTokens: c.Registration.DCR == "token",
			AllowLoopback: c.Registration.AllowLoopback, Admission: a.limits.registrations, Updates: a.limits.updates,
		}
	}
	a.discovery = discovery.New(a.db, a.keys, metadata(c))
	return nil
}

// keepAccounts makes the pages on which people make and keep their accounts, and what operators do about these.
func (a *assembly) keepAccounts(context.Context) error {
	c := a.config
	a.operations = &admin.Operations{
		DB: a.db, Issuer: c.Issuer, AllowLoopback: c.Registration.AllowLoopback, SigningAlg: c.Tokens.SigningAlg,
		Ring: a.keys, RefreshKey: a.master.RefreshKey(), Directory: a.directory, SignIn: c.Login.Providers,
		NoPasswords: !slices.Contains(c.Login.Methods, "password"),
	}
	a.account = &account.Endpoint{DB: a.db, Pages: a.pages, Sessions: a.desk.Sessions, Login: a.login}
	a.login.Connected = a.account.Connected
	a.reset = &account.Reset{Endpoint: a.account, Operations: a.operations, Addresses: a.limits.addresses}
	a.invite = &account.Invite{Endpoint: a.account, Operations: a.operations, Addresses: a.limits.addresses}
	a.login.Invitations = login.Invitations{Accept: a.invite.Accept, Refused: a.invite.Refused}
	if a.mail != nil {
		a.db.Announce(account.Worth, a.account.Tell)
		a.operations.MailInvitation = func(i admin.Invitation, inviter string) error {
			return a.mail.Send(invitationLetter(a.issuer.Host, i, inviter))
		}
	}
	return nil
}

// administer makes the Admin API, the console and the setup, unless they are off.
func (a *assembly) administer(ctx context.Context) error {
	c := a.config
	if !c.Admin.Enabled {
		return nil
	}
	for _, setting := range c.Settings() {
		a.operations.Configuration = append(a.operations.Configuration, admin.Setting(setting))
	}
	a.adminapi = &adminapi.Endpoint{
		DB: a.db, Keys: a.keys, Strangers: a.strangers, Issuer: c.Issuer,
		Admin: a.operations, Key: a.master.Derive("cursors"),
	}
	own := oauth.IsLoopback(a.issuer.Hostname()) // so are the MCP servers of a first try
	a.console = &console.Endpoint{DB: a.db, Pages: a.pages, Sessions: a.desk.Sessions, Operations: a.operations,
		Transport: fetch.New(fetch.Options{
			AllowLoopback: own || c.Registration.AllowLoopback, Now: a.db.Now}).Transport()}
	a.setup = &account.Setup{
		DB: a.db, Pages: a.pages, Sessions: a.desk.Sessions, Login: a.login, Operations: a.operations,
		Addresses: a.limits.addresses,
	}
	return a.operations.EnsureBuiltIn(ctx)
}

// keepLog makes what seals the audit log, and what sends it elsewhere.
func (a *assembly) keepLog(context.Context) error {
	sealer, courier, err := a.config.Audit.Open(a.db, a.master.Derive, a.log)
	if err != nil {
		return err
	}
	a.seal, a.send, a.unsealed = sealer.Run, courier.Run, sealer.Lag
	return nil
}

// metadata is what the server says of itself, but for its scopes.
func metadata(c config.Config) discovery.Metadata {
	m := discovery.Metadata{
		Issuer:                            c.Issuer,
		AuthorizationEndpoint:             c.Issuer + "/oauth2/authorize",
		TokenEndpoint:                     c.Issuer + "/oauth2/token",
		RevocationEndpoint:                c.Issuer + "/oauth2/revoke",
		IntrospectionEndpoint:             c.Issuer + "/oauth2/introspect",
		JWKSURI:                           c.Issuer + "/.well-known/jwks",
		ResponseTypesSupported:            []string{"code"},
		ResponseModesSupported:            []string{"query"},
		GrantTypesSupported:               oauth.GrantTypes(),
		TokenEndpointAuthMethodsSupported: client.Methods,
		RevocationEndpointAuthMethods:     client.Methods,
		IntrospectionEndpointAuthMethods: []oauth.Method{oauth.MethodBasic, oauth.MethodPost,
			oauth.MethodPrivateKeyJWT},
		TokenEndpointAuthSigningAlgs:      oauth.SigningAlgs,
		RevocationEndpointAuthSigningAlgs: oauth.SigningAlgs,
		IntrospectionEndpointSigningAlgs:  oauth.SigningAlgs,
		CodeChallengeMethodsSupported:     []string{"S256"},
		AuthorizationResponseIssParameter: true,
		ClientIDMetadataDocument:          c.Registration.CIMD != "off",
		ACRValuesSupported:                oauth.ACRs,
		SubjectTypesSupported:             []string{"public"},
		IDTokenSigningAlgValuesSupported:  []string{c.Tokens.SigningAlg},
	}
	if c.Registration.DCR != "off" {
		m.RegistrationEndpoint = c.Issuer + "/oauth2/register"
	}
	return m
}

// policy says whose metadata documents count.
func policy(c config.Config, fetches *strangers.Fetches) client.Policy {
	return client.Policy{
		Listed: c.Registration.CIMD == "allowlist", Allow: c.Registration.Allow, Deny: c.Registration.Deny,
		AllowLoopback: c.Registration.AllowLoopback, Fetches: fetches,
	}
}
