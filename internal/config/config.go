// Package config reads Cardea's configuration: defaults, then a YAML file, then
// the environment, then flags, each over the one before; checked as a whole.
// Nothing outside internal/server and cmd/cardea knows it.
package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
)

// Config is a checked configuration. Load makes one; the zero Config is none.
type Config struct {
	// Issuer is the server's public URL, without trailing slash: the iss of its
	// tokens, byte for byte.
	Issuer string
	// Listen is the address to serve on, "host:port"; an empty host is all.
	Listen string
	// DataDir holds the SQLite file and the generated master key.
	DataDir string
	// Database is "sqlite:PATH" or "postgres://…"; the latter may hold a password.
	Database string
	// MasterKey is 32 bytes in base64, a secret. MasterKeyFile is a file that holds
	// them. At most one is set; both are empty only with SQLite, where the key is
	// then DataDir's own.
	MasterKey, MasterKeyFile string

	TLS struct {
		Cert, Key string // PEM files; both or neither
	}
	// TrustedProxies are the networks whose Forwarded and X-Forwarded-For are
	// believed.
	TrustedProxies []netip.Prefix

	Tokens       Tokens
	Keys         Rotation
	Registration Registration
	Login        Login
	Limits       Limits
	Log          Log
}

// Tokens are the lifetimes of what the server issues, all positive but
// RefreshGrace, which may be 0, and how access tokens are signed.
type Tokens struct {
	AccessTTL      time.Duration // of an access token, at most oauth.MaxAccessTTL
	CodeTTL        time.Duration // of an authorization code, at most ten minutes
	RefreshIdleTTL time.Duration // of a refresh token that is not used
	RefreshMaxTTL  time.Duration // of a grant, however it is used
	RefreshGrace   time.Duration // in which the last refresh token is answered again
	SigningAlg     string        // one of oauth.SigningAlgs
}

// Rotation says what becomes of the signing keys.
type Rotation struct {
	RotateEvery time.Duration // 0: only by command
}

// Registration says who may register clients.
type Registration struct {
	DCR string // "open", "token" or "off": RFC 7591
	// CIMD is "open", "allowlist" or "off": clients whose id is the URL of a
	// metadata document.
	CIMD string
	// Allow and Deny are hosts of such URLs, as client.HostList reads them. Deny
	// counts always, Allow with "allowlist".
	Allow, Deny []string
	// AllowLoopback lets documents on loopback hosts be fetched, over http too.
	AllowLoopback bool
	// PinnedDir is a folder of documents that are used instead of fetching them;
	// "" for none.
	PinnedDir string
}

// Login says how long a person stays signed in.
type Login struct {
	IdleTTL time.Duration // of a session that is not used
	MaxTTL  time.Duration // of a session, however it is used
}

// Limits are the bounds on what one sender may ask for.
type Limits struct {
	// Enabled is false to switch all of them off, for tests.
	Enabled bool
	// Failures are the refused requests of one network address at the protocol
	// endpoints; beyond them it is turned away. AllFailures are those of all
	// addresses together that are recorded singly, half of them those of one network.
	Failures, AllFailures limit.Rate
	// Registrations are the new clients of one network address,
	// AllRegistrations those of all addresses together (RFC 7591 §5).
	Registrations, AllRegistrations limit.Rate
	// Documents are the metadata documents fetched for one signed-in person or one
	// network address, AllDocuments those for everybody who is not signed in.
	Documents, AllDocuments limit.Rate
	// Assertions are the client assertions of one client (RFC 7523).
	Assertions limit.Rate
	// AccountFailures and AddressFailures are the failed sign-ins of one account
	// and of one network address that cost nothing; after them every next one
	// waits twice as long.
	AccountFailures, AddressFailures int
}

// Log says how the log is written, to standard error.
type Log struct {
	Format string // "text", "json", or "auto": text on a terminal, else json
	Level  slog.Level
}
