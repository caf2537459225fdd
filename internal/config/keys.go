package config

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/scope"
)

// Key describes one configuration key.
type Key struct {
	Name    string // as in the file, with sections joined by dots: "tokens.access_ttl"
	Default string // as in the file; "" for none
	Meaning string // one line
}

// Variable returns the environment variable of the key: "CARDEA_TOKENS_ACCESS_TTL".
func (k Key) Variable() string {
	return "CARDEA_" + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// Keys returns all keys, in the order of the documentation.
func Keys() []Key {
	all := make([]Key, len(fields))
	for i, f := range fields {
		all[i] = f.Key
	}
	return all
}

// field is a key and the place of its value in a Config.
type field struct {
	Key
	at   func(*Config) any         // pointer to the value
	mask func(value string) string // nil if the value is not a secret
}

var fields = []field{
	{Key{"issuer", "http://localhost:8080", "public URL of this server, https unless the host is loopback, without " +
		"trailing slash; never derived from a request"},
		func(c *Config) any { return &c.Issuer }, nil},
	{Key{"listen", "127.0.0.1:8080", "address to serve on; `:8080` for all addresses of the machine; " +
		"`unix:/run/cardea/cardea.sock` for a socket that only programs of this machine reach, with mode 0660 unless " +
		"`?mode=0666` follows; `systemd` for the socket of a socket unit, `systemd:NAME` for one of several"},
		func(c *Config) any { return &c.Listen }, nil},
	{Key{"data_dir", "./cardea-data", "folder of the SQLite file and the generated master key; created with mode 0700"},
		func(c *Config) any { return &c.DataDir }, nil},
	{Key{"database", "sqlite:<data_dir>/cardea.db", "`sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/NAME` " +
		"(PostgreSQL 14 or newer, and databases compatible with it)"},
		func(c *Config) any { return &c.Database }, maskPassword},
	{Key{"database_file", "", "file that contains the URL of the database"},
		func(c *Config) any { return &c.DatabaseFile }, nil},
	{Key{"master_key", "", "32 bytes in base64 that encrypt signing keys and other secrets in the database; with " +
		"PostgreSQL, this or `master_key_file` is required"},
		func(c *Config) any { return &c.MasterKey }, func(string) string { return "(set)" }},
	{Key{"master_key_file", "", "file that contains the master key; it is refused if every user can read it. If " +
		"neither is set, with SQLite, the first start creates `<data_dir>/master.key` with mode 0600"},
		func(c *Config) any { return &c.MasterKeyFile }, nil},
	{Key{"tls.cert", "", "PEM file of the certificate chain, to [serve HTTPS](guides/https.md) without a proxy; " +
		"read again when it changes, and on SIGHUP"},
		func(c *Config) any { return &c.TLS.Cert }, nil},
	{Key{"tls.key", "", "PEM file of its private key"},
		func(c *Config) any { return &c.TLS.Key }, nil},
	{Key{"tls.acme.domains", "", "names of this server, that of `issuer` among them, for which it [obtains " +
		"certificates by itself](guides/https.md), such as `auth.example.com`; never for any other name"},
		func(c *Config) any { return &c.TLS.ACME.Domains }, nil},
	{Key{"tls.acme.email", "", "address to which the certificate authority may write; with `tls.acme.domains` you " +
		"agree to its terms"},
		func(c *Config) any { return &c.TLS.ACME.Email }, nil},
	{Key{"tls.acme.directory", letsEncrypt, "certificate authority (ACME, RFC 8555)"},
		func(c *Config) any { return &c.TLS.ACME.Directory }, nil},
	{Key{"tls.acme.ca_file", "", "PEM file of the root certificate of a certificate authority of your own"},
		func(c *Config) any { return &c.TLS.ACME.CAFile }, nil},
	{Key{"tls.http_listen", "", "address for http beside https, where browsers are sent to https and the certificate " +
		"authority is answered; with `tls.acme.domains`, port 80 unless this is set; `off` for none"},
		func(c *Config) any { return &c.TLS.HTTPListen }, nil},
	{Key{"trusted_proxies", "", "networks whose `Forwarded` and `X-Forwarded-For` headers are trusted, such as " +
		"`10.0.0.0/8, ::1`; if a proxy is not listed here, the limits count everybody behind it as one sender; a " +
		"peer at a Unix socket counts as 127.0.0.1"},
		func(c *Config) any { return &c.TrustedProxies }, nil},

	{Key{"tokens.access_ttl", "10m", "lifetime of an access token, at most 24h; a resource or client may have its own"},
		func(c *Config) any { return &c.Tokens.AccessTTL }, nil},
	{Key{"tokens.code_ttl", "60s", "lifetime of an authorization code, at most 10m"},
		func(c *Config) any { return &c.Tokens.CodeTTL }, nil},
	{Key{"tokens.refresh_idle_ttl", "720h", "lifetime of an unused refresh token; a resource may have its own"},
		func(c *Config) any { return &c.Tokens.RefreshIdleTTL }, nil},
	{Key{"tokens.refresh_max_ttl", "2160h", "time after which a person must consent again, even if the refresh " +
		"token was used; a resource may have its own"},
		func(c *Config) any { return &c.Tokens.RefreshMaxTTL }, nil},
	{Key{"tokens.refresh_grace", "60s", "time in which the previous refresh token gets the same answer again, " +
		"because a response was lost or two processes share it; at most 10m, 0 for none"},
		func(c *Config) any { return &c.Tokens.RefreshGrace }, nil},
	{Key{"tokens.signing_alg", "ES256", "`ES256`, `RS256`, `PS256` or `EdDSA`; a resource may have its own"},
		func(c *Config) any { return &c.Tokens.SigningAlg }, nil},
	{Key{"keys.rotate_every", "720h",
		"time after which a new signing key replaces the current one; at least 1h, 0 for never"},
		func(c *Config) any { return &c.Keys.RotateEvery }, nil},
	{Key{"registration.dcr", "open", "`open`: clients may register themselves (RFC 7591); `token`: only with an " +
		"initial access token (`cardea initial-access-token create`); `off`: not at all"},
		func(c *Config) any { return &c.Registration.DCR }, nil},
	{Key{"registration.cimd", "open", "clients whose id is the URL of a metadata document; `open`: on any public " +
		"host; `allowlist`: on the hosts in `registration.cimd_allow`; `off`: none"},
		func(c *Config) any { return &c.Registration.CIMD }, nil},
	{Key{"registration.approval", "off",
		"`required`: people can allow a client something only after an operator has approved it; until then it waits " +
			"(`cardea client list --waiting`)"},
		func(c *Config) any { return &c.Registration.Approval }, nil},
	{Key{"registration.cimd_allow", "", "hosts whose documents `allowlist` accepts, such as `agents.example.org, " +
		"*.example.com`; a port other than 443 must be given"},
		func(c *Config) any { return &c.Registration.Allow }, nil},
	{Key{"registration.cimd_deny", "", "hosts whose documents are never accepted, on any port"},
		func(c *Config) any { return &c.Registration.Deny }, nil},
	{Key{"registration.cimd_allow_loopback", "false",
		"accept documents on loopback hosts, also over http; for development and tests"},
		func(c *Config) any { return &c.Registration.AllowLoopback }, nil},
	{Key{"registration.cimd_pinned_dir", "", "folder of `*.json` metadata documents that are used instead of " +
		"fetching them, for hosts that cannot be reached; read at startup"},
		func(c *Config) any { return &c.Registration.PinnedDir }, nil},
	{Key{"login.methods", "password,passkey", "how people sign in, any of: `password`; `passkey`; `email`, by a link " +
		"and a code that are sent to them (needs `mail.smtp`)"},
		func(c *Config) any { return &c.Login.Methods }, nil},
	{Key{"login.second_factor", "optional", "codes of an authenticator app after the first proof; `optional`: of " +
		"people who set it up; `required`: of everybody; `off`: only where a resource, a group or a client demands it"},
		func(c *Config) any { return &c.Login.SecondFactor }, nil},
	{Key{"login.signup", "off", "`open`: people make their own accounts at `/signup`, with an address to which a " +
		"code is sent (needs `mail.smtp`); `off`: only with an invitation, by an operator, or at a provider"},
		func(c *Config) any { return &c.Login.SignUp }, nil},
	{Key{"login.signup_domains", "", "domains of the addresses with which people may sign up, such as `example.com, " +
		"example.org`; none: all"},
		func(c *Config) any { return &c.Login.SignUpDomains }, nil},
	{Key{"login.providers", "", "identity providers with which people sign in, a list (below)"},
		func(c *Config) any { return &c.Login.Providers }, nil},
	{Key{"login.external.url", "", "address of your application's own sign-in page (bring your own login); with it, " +
		"`login.methods` is none unless it is set"},
		func(c *Config) any { return &c.Login.External.URL }, nil},
	{Key{"login.idle_ttl", "24h", "time after which an unused browser session ends"},
		func(c *Config) any { return &c.Login.IdleTTL }, nil},
	{Key{"login.max_ttl", "168h", "time after which a browser session ends, even if it is used"},
		func(c *Config) any { return &c.Login.MaxTTL }, nil},

	{Key{"mail.smtp", "", "mail server, like `smtps://USER:PASSWORD@mail.example.com`; `smtp://` switches to TLS by " +
		"STARTTLS and sends nothing without it, unless the host is loopback; without a mail server, " +
		"links are printed by commands"},
		func(c *Config) any { return &c.Mail.SMTP }, maskPassword},
	{Key{"mail.smtp_file", "", "file that contains the URL of the mail server"},
		func(c *Config) any { return &c.MailFile }, nil},
	{Key{"mail.from", "", "sender of the mails, like `Example <auth@example.com>`"},
		func(c *Config) any { return &c.Mail.From }, nil},

	{Key{"brand.name", "",
		"what the pages and mails call this server, such as the name of your company; without it, Cardea"},
		func(c *Config) any { return &c.Brand.Name }, nil},
	{Key{"brand.logo_file", "",
		"picture at the top of the pages: `.svg`, `.png`, `.jpg` or `.webp`, at most 256 KB; read at startup"},
		func(c *Config) any { return &c.Brand.LogoFile }, nil},
	{Key{"brand.color", "", "colour of links and buttons, like `#0b6b60`; it is refused if it cannot be read on the " +
		"light pages (WCAG AA, 4.5:1), and made lighter for dark ones"},
		func(c *Config) any { return &c.Brand.Color }, nil},
	{Key{"brand.links.imprint", "", "link at the foot of the pages to your imprint"},
		func(c *Config) any { return &c.Brand.Links.Imprint }, nil},
	{Key{"brand.links.privacy", "", "link to your privacy policy"},
		func(c *Config) any { return &c.Brand.Links.Privacy }, nil},
	{Key{"brand.links.support", "", "link to where people get help; `mailto:` works too"},
		func(c *Config) any { return &c.Brand.Links.Support }, nil},

	{Key{"admin.enabled", "true",
		"`false` turns the administration over HTTP off: all its addresses answer 404; commands still work"},
		func(c *Config) any { return &c.Admin.Enabled }, nil},

	{Key{"audit.retain", "forever", "time after which the contents of events are deleted, such as `365d`; their " +
		"hashes stay, so that the rest can be verified"},
		func(c *Config) any { return &c.Audit.Retain }, nil},
	{Key{"audit.checkpoint_file", "", "file that holds the newest signed state of the audit log; copy it to another " +
		"machine, so that `cardea audit verify --checkpoint FILE` shows a log that was cut off"},
		func(c *Config) any { return &c.Audit.CheckpointFile }, nil},
	{Key{"audit.webhooks", "", "addresses to which events are sent as soon as they are sealed, a list (below)"},
		func(c *Config) any { return &c.Audit.Webhooks }, nil},
	{Key{"audit.syslog", "", "syslog server to which each event is sent (RFC 5424): `udp://HOST:514`, " +
		"`tcp://HOST:PORT`, `tls://HOST:PORT` or `unix:/dev/log`"},
		func(c *Config) any { return &c.Audit.Syslog }, nil},

	{Key{"gateway.config", "", "file of a [gateway](guides/gateway.md) that runs in the same process, at the " +
		"`listen` in that file; read again when it changes, and on SIGHUP"},
		func(c *Config) any { return &c.Gateway.Config }, nil},

	{Key{"metrics_listen", "", "address on which [metrics](guides/watch.md) are served for Prometheus at `/metrics`, " +
		"such as `127.0.0.1:9090` or a socket as for `listen`; anybody who reaches it may read them"},
		func(c *Config) any { return &c.MetricsListen }, nil},

	{Key{"limits.enabled", "true", "`false` turns all limits off, for tests"},
		func(c *Config) any { return &c.Limits.Enabled }, nil},
	{Key{"limits.failures", "300/1m", "refused requests from one network address; further ones are answered 429"},
		func(c *Config) any { return &c.Limits.Failures }, nil},
	{Key{"limits.all_failures", "1200/1m", "refused requests from all addresses together that are recorded one by " +
		"one in the audit log, at most half of them from one network; of further ones only the number is recorded"},
		func(c *Config) any { return &c.Limits.AllFailures }, nil},
	{Key{"limits.registrations", "60/1m",
		"new clients from one network address, and as many updates of clients by themselves"},
		func(c *Config) any { return &c.Limits.Registrations }, nil},
	{Key{"limits.all_registrations", "600/1m",
		"new clients from all addresses together, and as many updates; another tenth is reserved for networks that " +
			"registered few"},
		func(c *Config) any { return &c.Limits.AllRegistrations }, nil},
	{Key{"limits.documents", "30/1m",
		"client metadata documents fetched for one network address, or for one person who is signed in"},
		func(c *Config) any { return &c.Limits.Documents }, nil},
	{Key{"limits.all_documents", "120/1m",
		"client metadata documents fetched for all senders together that are not signed in"},
		func(c *Config) any { return &c.Limits.AllDocuments }, nil},
	{Key{"limits.assertions", "6000/1m", "signed assertions of one client (`private_key_jwt`); each is stored until " +
		"it expires, so that it is used only once; those of clients that nobody has used yet count as refused " +
		"requests do, by address and together"},
		func(c *Config) any { return &c.Limits.Assertions }, nil},
	{Key{"limits.mails", "5/1h", "mails of one kind to one address; a device on which its owner has signed in before " +
		"counts separately"},
		func(c *Config) any { return &c.Limits.Mails }, nil},
	{Key{"limits.mail_requests", "30/1h",
		"mails that one network address asks for: to sign in, or for a new password"},
		func(c *Config) any { return &c.Limits.MailRequests }, nil},
	{Key{"limits.all_mail_requests", "1200/1h", "mails that are asked for from all addresses together; another tenth " +
		"is reserved for networks that asked for few"},
		func(c *Config) any { return &c.Limits.AllMailRequests }, nil},
	{Key{"limits.account_failures", "5",
		"failed sign-ins of one account without a delay; each further one doubles the delay"},
		func(c *Config) any { return &c.Limits.AccountFailures }, nil},
	{Key{"limits.address_failures", "20",
		"failed sign-ins from one network address without a delay; each further one doubles the delay"},
		func(c *Config) any { return &c.Limits.AddressFailures }, nil},

	{Key{"log.format", "auto", "`text`, `json`, or `auto`: `text` on a terminal, otherwise `json`; " +
		"in JSON a duration is in milliseconds, and its name ends in `_ms`"},
		func(c *Config) any { return &c.Log.Format }, nil},
	{Key{"log.level", "info", "`debug`, `info`, `warn` or `error`"},
		func(c *Config) any { return &c.Log.Level }, nil},
}

// letsEncrypt is a certificate authority that everybody may use.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

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

// HoldsPassword reports whether a database URL, valid or not, contains a password: before the host, or in a parameter,
// in any case and with any escapes.
func HoldsPassword(database string) bool {
	if strings.HasPrefix(database, "sqlite:") {
		return false
	}
	if u, err := url.Parse(database); err != nil {
		return inAuthority.MatchString(database) || inParameter.MatchString(database)
	} else if _, secret := u.User.Password(); secret {
		return true
	}
	for range 3 { // nested escapes are not an accident, but three levels are enough
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

// nearest returns the candidate that a mistyped name may mean, with or without its section.
func nearest(name string, candidates []string) string {
	names, full := slices.Clone(candidates), map[string]string{}
	for _, candidate := range candidates {
		short := candidate[strings.LastIndexByte(candidate, '.')+1:]
		if !slices.Contains(names, short) {
			names, full[short] = append(names, short), candidate
		}
	}
	found := scope.Nearest(name, names)
	return cmp.Or(full[found], found)
}
