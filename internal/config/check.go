package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/net/idna"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// check returns an error unless the configuration as a whole is valid.
func (l *Loaded) check() error {
	for _, check := range []func(*Config) error{checkIssuer, checkListen, checkStorage, checkTLS, checkLifetimes,
		checkChoices, checkMail, checkBrand, checkAudit} {
		if err := check(&l.Config); err != nil {
			return err
		}
	}
	return nil
}

// checkIssuer checks the rules of RFC 8414 §2: https, without query and fragment. It also demands one spelling, because
// clients compare issuers byte for byte.
func checkIssuer(c *Config) error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Scheme == "" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("issuer: %.200q is not a URL; write it like https://auth.example.com", c.Issuer)
	case u.User != nil:
		return errors.New("issuer: it must not contain a user name or password")
	case strings.ContainsAny(c.Issuer, "?#"):
		return errors.New("issuer: it must not have a query or fragment; remove everything from the ? or # on")
	case strings.HasSuffix(c.Issuer, "/"):
		return fmt.Errorf("issuer: it must not end in a slash; write %s", strings.TrimRight(c.Issuer, "/"))
	case u.Path != "" && (path.Clean(u.Path) != u.Path || u.EscapedPath() != u.Path):
		return errors.New("issuer: its path must not have empty segments, dot segments or escapes; it is best to " +
			"have no path")
	case u.Scheme == "http" && !oauth.IsLoopback(u.Hostname()):
		return fmt.Errorf("issuer: it must be https, because tokens are sent over it; write https://%s (http is "+
			"allowed only for localhost, names below it, 127.0.0.1 and [::1])", u.Host)
	case strings.ContainsFunc(u.Host, func(c rune) bool { return c > unicode.MaxASCII }):
		return fmt.Errorf("issuer: an internationalized host must be in its DNS form, because clients compare it "+
			"byte for byte; %s", inDNS(u))
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("issuer: it must be an https URL, not %s", u.Scheme)
	case c.Issuer != strings.ToLower(u.Scheme+"://"+u.Host)+u.Path:
		return fmt.Errorf("issuer: scheme and host must be in lower case; write %s",
			strings.ToLower(u.Scheme+"://"+u.Host)+u.Path)
	case u.Scheme == "https" && u.Port() == "443", u.Scheme == "http" && u.Port() == "80":
		return errors.New("issuer: remove the port, because it is the scheme's default")
	case strings.HasSuffix(u.Host, ":"):
		return errors.New("issuer: it ends in a colon without a port; remove the colon")
	}
	return nil
}

// inDNS says what to write instead of a URL whose host is an internationalized name (RFC 5891 §4.4).
func inDNS(u *url.URL) string {
	host, err := idna.Lookup.ToASCII(u.Hostname())
	if err != nil {
		return fmt.Sprintf("%.100q has none, so use another host", u.Hostname())
	}
	if port := u.Port(); port != "" {
		host += ":" + port
	}
	return fmt.Sprintf("write %s://%s%s", u.Scheme, host, u.EscapedPath())
}

func checkListen(c *Config) error {
	at, err := ParseAddress(c.Listen)
	switch {
	case err != nil:
		return fmt.Errorf("listen: %w; write it like 127.0.0.1:8080, or :8080 for all", err)
	case at.Path != "" && c.SecureTLS():
		return errors.New("listen: a Unix socket is for a proxy on this machine, which has the certificate; listen " +
			"at a port, or remove what is set below tls")
	case c.MetricsListen == "":
		return nil
	}
	_, err = ParseAddress(c.MetricsListen)
	switch {
	case err != nil:
		return fmt.Errorf("metrics_listen: %w; write it like 127.0.0.1:9090", err)
	case c.MetricsListen == c.Listen:
		return errors.New("metrics_listen: it must be another address than listen, because anybody who reaches it " +
			"may read the metrics; write it like 127.0.0.1:9090")
	}
	return nil
}

// authority returns what is between :// and the path or query of a URL, valid or not.
func authority(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		return rest[:end]
	}
	return rest
}

// checkStorage never quotes the database in an error, because it may contain a password.
func checkStorage(c *Config) error {
	sqlite := strings.HasPrefix(c.Database, "sqlite:")
	switch {
	case c.DataDir == "":
		return errors.New("data_dir: it must not be empty; write a path like ./cardea-data")
	case c.Database == "sqlite:":
		return errors.New("database: the path of the SQLite file is missing; write it like " +
			"sqlite:/var/lib/cardea/cardea.db")
	case !sqlite && !strings.HasPrefix(c.Database, "postgres://") && !strings.HasPrefix(c.Database, "postgresql://"):
		return errors.New("database: it must begin with sqlite: or postgres://; write a file like " +
			"sqlite:/var/lib/cardea/cardea.db")
	case !sqlite && strings.Count(authority(c.Database), "@") > 1: // what follows the first would be the host
		return errors.New("database: there is an @ in the user name or the password; write it as %40")
	case c.MasterKey != "" && c.MasterKeyFile != "":
		return errors.New("master_key and master_key_file are both set; keep one")
	case !sqlite && c.MasterKey == "" && c.MasterKeyFile == "":
		return errors.New("master_key is required with PostgreSQL, and all nodes need the same one; create it with: " +
			"openssl rand -base64 32, and set CARDEA_MASTER_KEY or master_key_file")
	}
	return nil
}

func checkTLS(c *Config) error {
	acme := c.TLS.ACME
	switch {
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return errors.New("tls.cert and tls.key must be set together; set both or neither")
	case c.TLS.Cert != "" && !strings.HasPrefix(c.Issuer, "https:"):
		return errors.New("issuer: it must be https when tls.cert is set")
	case c.TLS.Cert != "" && len(acme.Domains) > 0:
		return errors.New("tls.cert and tls.acme.domains are both set; keep tls.cert to use the certificate of that " +
			"file, or tls.acme.domains to have one obtained")
	case len(acme.Domains) == 0 && (acme.Email != "" || acme.CAFile != ""):
		return errors.New("tls.acme.domains is missing; list the host of issuer there, or remove tls.acme")
	case c.TLS.HTTPListen != "" && c.TLS.HTTPListen != "off" && !c.SecureTLS():
		return errors.New("tls.http_listen: this server does not serve https, so it cannot send anybody there; set " +
			"tls.cert or tls.acme.domains, or remove it")
	case c.TLS.HTTPListen != "" && c.TLS.HTTPListen == c.Listen:
		return errors.New("tls.http_listen: it must be another address than listen, which serves https; write it " +
			"like :80")
	}
	if address := c.HTTPAddress(); address != "" {
		if _, err := ParseAddress(address); err != nil {
			return fmt.Errorf("tls.http_listen: %w; write it like :80, or off", err)
		}
	}
	if len(acme.Domains) == 0 {
		return nil
	}
	return checkACME(c)
}

// checkACME checks what a server needs that obtains its certificates by itself.
func checkACME(c *Config) error {
	acme := c.TLS.ACME
	issuer, err := url.Parse(c.Issuer)
	if err != nil || issuer.Scheme != "https" {
		return errors.New("issuer: it must be https when tls.acme.domains is set")
	}
	for _, domain := range acme.Domains {
		_, err := netip.ParseAddr(domain)
		switch {
		case strings.Contains(domain, "*"):
			return fmt.Errorf("tls.acme.domains: a certificate for %s needs an entry in DNS, which Cardea does not "+
				"make; list each name, or obtain it with another program and set tls.cert and tls.key", domain)
		case strings.Contains(domain, ":"):
			return fmt.Errorf("tls.acme.domains: %s has a port; write the name alone", domain)
		case err == nil || oauth.IsLoopback(domain) || acme.Directory == letsEncrypt && !strings.Contains(domain, "."):
			return fmt.Errorf("tls.acme.domains: nobody on the internet can prove to have %s; use a public name like "+
				"auth.example.com", domain)
		}
	}
	if !slices.Contains(acme.Domains, issuer.Hostname()) {
		return fmt.Errorf("tls.acme.domains: the host of issuer must be among them, because clients connect to it; "+
			"add %s", issuer.Hostname())
	}
	if at, err := url.Parse(acme.Directory); err != nil || at.Scheme != "https" || at.Host == "" {
		return fmt.Errorf("tls.acme.directory: %.200q is not an https URL; write it like %s",
			acme.Directory, letsEncrypt)
	}
	return nil
}

func checkMail(c *Config) error {
	if slices.Contains(c.Login.Methods, "email") && c.Mail.SMTP == "" {
		return errors.New("login.methods: email needs a mail server; set mail.smtp and mail.from")
	}
	if c.Login.SignUp == "open" && !c.Mail.On() {
		return errors.New("login.signup: open needs a mail server; set mail.smtp and mail.from")
	}
	for _, domain := range c.Login.SignUpDomains {
		if strings.ContainsAny(domain, "*:") {
			return fmt.Errorf("login.signup_domains: %.100q is not one domain; write each like example.com", domain)
		}
	}
	return c.Mail.Check()
}

func checkBrand(c *Config) error { return c.Brand.Check() }

func checkLifetimes(c *Config) error {
	for _, life := range []struct {
		name        string
		value       time.Duration
		least, most time.Duration // most is 0 for no bound
	}{
		{"tokens.access_ttl", c.Tokens.AccessTTL, time.Second, oauth.MaxAccessTTL},
		{"tokens.code_ttl", c.Tokens.CodeTTL, time.Second, 10 * time.Minute},
		{"tokens.refresh_idle_ttl", c.Tokens.RefreshIdleTTL, time.Second, 0},
		{"tokens.refresh_max_ttl", c.Tokens.RefreshMaxTTL, time.Second, 0},
		{"tokens.refresh_grace", c.Tokens.RefreshGrace, 0, 10 * time.Minute},
		{"login.idle_ttl", c.Login.IdleTTL, time.Second, 0},
		{"login.max_ttl", c.Login.MaxTTL, time.Second, 0},
	} {
		switch {
		case life.value < life.least:
			return fmt.Errorf("%s: it must be at least %s", life.name, oauth.Brief(life.least))
		case life.most > 0 && life.value > life.most:
			return fmt.Errorf("%s: it must be at most %s", life.name, oauth.Brief(life.most))
		}
	}
	if c.Keys.RotateEvery != 0 && c.Keys.RotateEvery < time.Hour {
		return errors.New("keys.rotate_every: it must be at least 1h, because a key is published before it signs; " +
			"write 0 for never")
	}
	return nil
}

func checkChoices(c *Config) error {
	for _, choice := range []struct {
		name, value string
		of          []string
	}{
		{"tokens.signing_alg", c.Tokens.SigningAlg, oauth.SigningAlgs},
		{"registration.dcr", c.Registration.DCR, []string{"open", "token", "off"}},
		{"registration.cimd", c.Registration.CIMD, []string{"open", "allowlist", "off"}},
		{"registration.approval", c.Registration.Approval, []string{"off", "required"}},
		{"login.signup", c.Login.SignUp, []string{"off", "open"}},
		{"login.second_factor", c.Login.SecondFactor, []string{"off", "optional", "required"}},
		{"log.format", c.Log.Format, []string{"auto", "text", "json"}},
	} {
		if !slices.Contains(choice.of, choice.value) {
			return fmt.Errorf("%s: %.40q is unknown; use one of %s", choice.name, choice.value,
				strings.Join(choice.of, ", "))
		}
	}
	if c.Login.External.URL != "" {
		if err := upstream.CheckURL(c.Login.External.URL); err != nil {
			return fmt.Errorf("login.external.url: %w", err)
		}
	}
	for _, method := range c.Login.Methods {
		if !slices.Contains(LoginMethods, method) {
			return fmt.Errorf("login.methods: %.40q is unknown; use any of %s", method,
				strings.Join(LoginMethods, ", "))
		}
	}
	if c.Registration.CIMD == "allowlist" && len(c.Registration.Allow) == 0 && c.Registration.PinnedDir == "" {
		return errors.New("registration.cimd: allowlist permits no client while registration.cimd_allow is empty; " +
			"list hosts there, or set registration.cimd to off")
	}
	if c.Limits.AccountFailures < 1 || c.Limits.AddressFailures < 1 {
		return errors.New("limits.account_failures and limits.address_failures must be at least 1; to turn them " +
			"off, set limits.enabled to false")
	}
	return nil
}
