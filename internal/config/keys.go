package config

import (
	"net/url"
	"regexp"
	"strings"
)

// Key describes one configuration key.
type Key struct {
	Name    string // as in the file, sections joined by dots: "tokens.access_ttl"
	Default string // as it would be written; "" for none
	Meaning string // one line
}

// Variable returns the environment variable of the key: "CARDEA_TOKENS_ACCESS_TTL".
func (k Key) Variable() string {
	return "CARDEA_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Keys returns all keys, in the order in which the documentation tells them.
func Keys() []Key {
	all := make([]Key, len(fields))
	for i, f := range fields {
		all[i] = f.Key
	}
	return all
}

// field is a key and where its value stands.
type field struct {
	Key
	at   func(*Config) any         // pointer to the value
	mask func(value string) string // nil: it is no secret
}

var fields = []field{
	{Key{"issuer", "http://localhost:8080", "public URL of this server, https unless the host is loopback, without trailing slash; never derived from a request"},
		func(c *Config) any { return &c.Issuer }, nil},
	{Key{"listen", "127.0.0.1:8080", "address to serve on; `:8080` for all addresses of the machine"},
		func(c *Config) any { return &c.Listen }, nil},
	{Key{"data_dir", "./cardea-data", "folder of the SQLite file and the generated master key; made with mode 0700"},
		func(c *Config) any { return &c.DataDir }, nil},
	{Key{"database", "sqlite:<data_dir>/cardea.db", "`sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/NAME` (PostgreSQL 14 and up, and engines that speak it)"},
		func(c *Config) any { return &c.Database }, maskPassword},
	{Key{"master_key", "", "32 bytes in base64 that seal signing keys and secrets at rest; required, here or as a file, with PostgreSQL"},
		func(c *Config) any { return &c.MasterKey }, func(string) string { return "(set)" }},
	{Key{"master_key_file", "", "file that holds the master key; without either, and with SQLite, the first start makes `<data_dir>/master.key`, mode 0600; one that every user can read is refused"},
		func(c *Config) any { return &c.MasterKeyFile }, nil},
	{Key{"tls.cert", "", "PEM file of the certificate chain, to serve HTTPS without a proxy; read again when it changes"},
		func(c *Config) any { return &c.TLS.Cert }, nil},
	{Key{"tls.key", "", "PEM file of its private key"},
		func(c *Config) any { return &c.TLS.Key }, nil},
	{Key{"trusted_proxies", "", "networks whose `Forwarded` and `X-Forwarded-For` are believed, such as `10.0.0.0/8, ::1`; a proxy that is not named here makes everybody behind it one sender to the limits"},
		func(c *Config) any { return &c.TrustedProxies }, nil},

	{Key{"tokens.access_ttl", "10m", "life of an access token, at most 24h; a resource or client may have its own"},
		func(c *Config) any { return &c.Tokens.AccessTTL }, nil},
	{Key{"tokens.code_ttl", "60s", "life of an authorization code, at most 10m"},
		func(c *Config) any { return &c.Tokens.CodeTTL }, nil},
	{Key{"tokens.refresh_idle_ttl", "720h", "life of a refresh token that is not used; a resource may have its own"},
		func(c *Config) any { return &c.Tokens.RefreshIdleTTL }, nil},
	{Key{"tokens.refresh_max_ttl", "2160h", "time after which a person is asked again, however the refresh token is used; a resource may have its own"},
		func(c *Config) any { return &c.Tokens.RefreshMaxTTL }, nil},
	{Key{"tokens.refresh_grace", "60s", "time in which the refresh token before the newest gets the same answer again, for lost responses and sibling processes; at most 10m, 0 for none"},
		func(c *Config) any { return &c.Tokens.RefreshGrace }, nil},
	{Key{"tokens.signing_alg", "ES256", "`ES256`, `RS256`, `PS256` or `EdDSA`; a resource may have its own"},
		func(c *Config) any { return &c.Tokens.SigningAlg }, nil},
	{Key{"keys.rotate_every", "720h", "how long a signing key signs before a new one takes over; at least 1h, 0 for never"},
		func(c *Config) any { return &c.Keys.RotateEvery }, nil},
	{Key{"registration.dcr", "open", "`open`: clients may register themselves (RFC 7591); `token`: who has an initial access token may (`cardea initial-access-token create`); `off`: nobody"},
		func(c *Config) any { return &c.Registration.DCR }, nil},
	{Key{"registration.cimd", "open", "clients whose id is the URL of a metadata document; `open`: on any public host; `allowlist`: on those of `registration.cimd_allow`; `off`: none"},
		func(c *Config) any { return &c.Registration.CIMD }, nil},
	{Key{"registration.cimd_allow", "", "hosts whose documents are read with `allowlist`, such as `agents.example.org, *.example.com`; a port other than 443 must be named"},
		func(c *Config) any { return &c.Registration.Allow }, nil},
	{Key{"registration.cimd_deny", "", "hosts whose documents are never read, on whatever port"},
		func(c *Config) any { return &c.Registration.Deny }, nil},
	{Key{"registration.cimd_allow_loopback", "false", "documents on loopback hosts may be read, over http too: for development and tests"},
		func(c *Config) any { return &c.Registration.AllowLoopback }, nil},
	{Key{"registration.cimd_pinned_dir", "", "folder of `*.json` metadata documents that are used instead of fetching them, for hosts that cannot be reached; read at the start"},
		func(c *Config) any { return &c.Registration.PinnedDir }, nil},
	{Key{"login.idle_ttl", "24h", "time after which an unused browser session ends"},
		func(c *Config) any { return &c.Login.IdleTTL }, nil},
	{Key{"login.max_ttl", "168h", "time after which a browser session ends, however it is used"},
		func(c *Config) any { return &c.Login.MaxTTL }, nil},

	{Key{"limits.enabled", "true", "`false` switches all limits off, for tests"},
		func(c *Config) any { return &c.Limits.Enabled }, nil},
	{Key{"limits.failures", "300/1m", "refused requests of one network address; beyond them it is answered 429"},
		func(c *Config) any { return &c.Limits.Failures }, nil},
	{Key{"limits.all_failures", "1200/1m", "refused requests of all addresses together that the audit log has singly, half of them of one network; beyond them it has their number"},
		func(c *Config) any { return &c.Limits.AllFailures }, nil},
	{Key{"limits.registrations", "60/1m", "new clients of one network address"},
		func(c *Config) any { return &c.Limits.Registrations }, nil},
	{Key{"limits.all_registrations", "600/1m", "new clients of all addresses together; a tenth of it more for networks that registered hardly any"},
		func(c *Config) any { return &c.Limits.AllRegistrations }, nil},
	{Key{"limits.documents", "30/1m", "metadata documents, key sets and logos of clients that are fetched for one network address, or for one person who is signed in"},
		func(c *Config) any { return &c.Limits.Documents }, nil},
	{Key{"limits.all_documents", "120/1m", "those fetched for everybody together who is not signed in; a tenth of it more for networks that had hardly any fetched"},
		func(c *Config) any { return &c.Limits.AllDocuments }, nil},
	{Key{"limits.assertions", "6000/1m", "signed assertions of one client (`private_key_jwt`); each is noted until it expires, so that it is used once"},
		func(c *Config) any { return &c.Limits.Assertions }, nil},
	{Key{"limits.account_failures", "5", "failed sign-ins of one account before the next ones have to wait, each twice as long"},
		func(c *Config) any { return &c.Limits.AccountFailures }, nil},
	{Key{"limits.address_failures", "20", "failed sign-ins of one network address before the next ones have to wait, each twice as long"},
		func(c *Config) any { return &c.Limits.AddressFailures }, nil},

	{Key{"log.format", "auto", "`text`, `json`, or `auto`: text on a terminal, else json"},
		func(c *Config) any { return &c.Log.Format }, nil},
	{Key{"log.level", "info", "`debug`, `info`, `warn` or `error`"},
		func(c *Config) any { return &c.Log.Level }, nil},
}

// maskPassword hides the password in a database URL.
func maskPassword(database string) string {
	u, err := url.Parse(database)
	switch {
	case err != nil:
		return "(set)"
	case u.Scheme == "sqlite":
		return database
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query.Set(name, "xxxxx")
			u.RawQuery = query.Encode()
		}
	}
	return u.Redacted()
}

// HoldsPassword reports whether a database URL, or what was meant to be one, holds
// a password: before the host, or in a parameter, in whatever case and escapes.
func HoldsPassword(database string) bool {
	if strings.HasPrefix(database, "sqlite:") {
		return false
	}
	if u, err := url.Parse(database); err != nil {
		return inAuthority.MatchString(database) || inParameter.MatchString(database)
	} else if _, secret := u.User.Password(); secret {
		return true
	}
	for range 3 { // nobody escapes an escape by accident
		if inParameter.MatchString(database) {
			return true
		}
		unescaped, err := url.QueryUnescape(database)
		if err != nil {
			break
		}
		database = unescaped
	}
	return false
}

var (
	inAuthority = regexp.MustCompile(`://[^@]*:[^@]*@`)
	inParameter = regexp.MustCompile(`(?i)password\s*=`) // sslpassword too
)

// nearest returns the name that a mistyped one was most likely meant to be: of
// candidates, the one the fewest edits away from it, with or without its section.
func nearest(name string, candidates []string) string {
	best, least := "", -1
	for _, candidate := range candidates {
		d := distance(name, candidate)
		if i := strings.LastIndexByte(candidate, '.'); i >= 0 {
			d = min(d, 1+distance(name, candidate[i+1:]))
		}
		if least < 0 || d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of insertions, deletions and substitutions that make b
// of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
