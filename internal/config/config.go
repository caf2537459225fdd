// Package config reads and checks Cardea's configuration: defaults, overridden by a YAML file, then by the environment,
// then by flags. Only internal/server and cmd/cardea import it.
package config

import (
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/web"
)

// Config is a checked configuration, as returned by Load. The zero Config is not valid.
type Config struct {
	from map[string]string // the source of each key that is not at its default

	// Issuer is the server's public URL, without trailing slash, and byte for byte the iss of its tokens.
	Issuer string
	// Listen is the address to serve on; ParseAddress reads it.
	Listen string
	// DataDir is the folder of the SQLite file and the generated master key.
	DataDir string
	// Database is "sqlite:PATH" or "postgres://…"; the latter may contain a password.
	Database     string
	DatabaseFile string // file that has Database
	// MasterKey is a secret of 32 bytes in base64. MasterKeyFile is a file that contains it. At most one is set; both
	// are empty only with SQLite, where the key is then generated in DataDir.
	MasterKey, MasterKeyFile string

	TLS struct {
		Cert, Key string // PEM files; both or neither
		ACME      ACME
		// HTTPListen is the address for HTTP beside HTTPS, as Listen, or "off"; HTTPAddress reads it.
		HTTPListen string
	}
	// TrustedProxies are the networks whose Forwarded and X-Forwarded-For headers are trusted.
	TrustedProxies []netip.Prefix

	Tokens       Tokens
	Keys         Rotation
	Registration Registration
	Login        Login
	Mail         mail.Config
	MailFile     string // file that has Mail.SMTP
	Brand        web.Branding
	Admin        Admin
	Audit        ledger.Settings
	// MetricsListen is the address on which metrics are served, as Listen; "" for none.
	MetricsListen string
	Gateway       struct{ Config string } // file of the gateway that runs with the server; "": none does
	Limits        Limits
	Log           Log
}

// Tokens holds the lifetimes of what the server issues, and the algorithm that signs access tokens. All lifetimes are
// positive, except that RefreshGrace may be 0.
type Tokens struct {
	AccessTTL      time.Duration // of an access token; at most oauth.MaxAccessTTL
	CodeTTL        time.Duration // of an authorization code; at most ten minutes
	RefreshIdleTTL time.Duration // of a refresh token that is not used
	RefreshMaxTTL  time.Duration // of a grant, used or not
	RefreshGrace   time.Duration // in which the previous refresh token gets the same answer again
	SigningAlg     string        // one of oauth.SigningAlgs
}

// ACME says which certificates the server obtains by itself (RFC 8555).
type ACME struct {
	Email     string
	Domains   []string // none: it obtains none
	Directory string   // URL of the certificate authority
	CAFile    string   // PEM file of the root certificate of Directory; "": those of the system
}

// SecureTLS reports whether the server serves HTTPS.
func (c *Config) SecureTLS() bool { return c.TLS.Cert != "" || len(c.TLS.ACME.Domains) > 0 }

// HTTPAddress returns the address for HTTP beside HTTPS, "" for none. If the configuration names none, it is port 80 of
// the host of Listen while the server obtains its certificates by itself.
func (c *Config) HTTPAddress() string {
	switch {
	case c.TLS.HTTPListen == "off" || c.TLS.HTTPListen == "" && len(c.TLS.ACME.Domains) == 0:
		return ""
	case c.TLS.HTTPListen != "":
		return c.TLS.HTTPListen
	}
	host, _, _ := net.SplitHostPort(c.Listen) // none if it is a socket of systemd
	return net.JoinHostPort(host, "80")
}

// Rotation says how often signing keys are replaced.
type Rotation struct {
	RotateEvery time.Duration // 0 for only by command
}

// Registration says which clients may register, and how.
type Registration struct {
	DCR string // "open", "token" or "off": RFC 7591
	// CIMD is "open", "allowlist" or "off". It applies to clients whose id is the URL of a metadata document.
	CIMD string
	// Approval is "off" or "required": a client that no operator has approved waits for one.
	Approval string
	// Allow and Deny are hosts of such URLs, in the syntax of client.HostList. Deny always applies, Allow only with
	// "allowlist".
	Allow, Deny []string
	// AllowLoopback permits fetching documents from loopback hosts, also over http.
	AllowLoopback bool
	// PinnedDir is a folder of documents that are read instead of being fetched; "" for none.
	PinnedDir string
}

// Words are names separated by commas or spaces.
type Words []string

// Login says how people sign in, and how long they stay signed in.
type Login struct {
	// SecondFactor is "off", "optional" or "required".
	SecondFactor string
	// Methods are the ways in which people prove who they are, each one of LoginMethods.
	Methods Words
	// SignUp is "off" or "open". SignUpDomains are the domains of the addresses with which people may sign up;
	// none: all.
	SignUp        string
	SignUpDomains []string
	// External is the application whose own sign-in page people use; its URL is "" if there is none.
	External struct{ URL string }
	// Providers are the identity providers with which people sign in.
	Providers []upstream.Config
	IdleTTL   time.Duration // of a session that is not used
	MaxTTL    time.Duration // of a session, used or not
}

// LoginMethods are what Login.Methods may have.
var LoginMethods = []string{"password", "passkey", "email"}

// Admin says whether operators work over HTTP.
type Admin struct {
	Enabled bool
}

// Limits are the bounds on what one sender may ask for.
type Limits struct {
	// Enabled turns the limits on. It is false only in tests.
	Enabled bool
	// Failures limits the refused requests of one network address at the protocol endpoints; beyond it, every request
	// that would be refused is answered 429. AllFailures limits the refused requests of all addresses together that are
	// recorded one by one; half of them may come from one network. Beyond it, only their number is recorded.
	Failures, AllFailures limit.Rate
	// Registrations limits the new clients of one network address, AllRegistrations those of all addresses together
	// (RFC 7591 §5).
	Registrations, AllRegistrations limit.Rate
	// Documents limits the metadata documents fetched for one signed-in person or one network address, AllDocuments
	// those fetched for all senders that are not signed in.
	Documents, AllDocuments limit.Rate
	// Assertions limits the client assertions of one client (RFC 7523).
	Assertions limit.Rate
	// Mails limits the mails of one kind to one address. MailRequests limits those that one network address asks for,
	// AllMailRequests those that are asked for from all addresses.
	Mails, MailRequests, AllMailRequests limit.Rate
	// AccountFailures and AddressFailures are the numbers of failed sign-ins of one account and of one network address
	// that cause no delay. Each further failure doubles the delay.
	AccountFailures, AddressFailures int
}

// Log says how the log is written. It goes to standard error.
type Log struct {
	Format string // "text", "json", or "auto": text on a terminal, otherwise JSON
	Level  slog.Level
}
