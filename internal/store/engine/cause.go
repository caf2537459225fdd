package engine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// fileError is an error of the SQLite file at path.
type fileError struct {
	path string
	err  error
}

func (e *fileError) Error() string { return e.path + ": " + e.err.Error() }

func (e *fileError) Unwrap() error { return e.err }

// Cause returns one sentence for the operator about an error of this package: why the database cannot be used, and
// what to do. It begins with "database", the key of the configuration, and contains no password. Cause returns "" if
// the error does not say why, or is not about the database as a whole.
func Cause(err error) string {
	sentence := postgresCause(err)
	if sentence == "" {
		sentence = sqliteCause(err)
	}
	if sentence == "" && errors.Is(err, oauth.ErrUnavailable) && errors.Is(err, context.DeadlineExceeded) {
		sentence = "it does not answer in time; check whether it is overloaded, or locked by another program"
	}
	if sentence == "" {
		return ""
	}
	return "database: " + sentence
}

// postgresCause is Cause for PostgreSQL, without the key. What PostgreSQL answered comes first, because of several
// addresses one may have answered and another not.
func postgresCause(err error) string {
	at, user, database := "PostgreSQL", "", ""
	password, encrypted := true, false // whether there is one, and whether the connection is
	var connect *pgconn.ConnectError
	connecting := errors.As(err, &connect)
	if connecting {
		at += " at " + servers(connect.Config)
		user, database = connect.Config.User, connect.Config.Database
		password = connect.Config.Password != ""
		encrypted = connect.Config.TLSConfig != nil
	}
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return answered(pg, at, user, database, password, encrypted)
	}
	if !connecting {
		return ""
	}
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no host called %q; correct the host in the URL, or the DNS", dns.Name)
	case errors.As(err, &dns):
		return fmt.Sprintf("the address of %q cannot be looked up, because the DNS does not answer; check the DNS of "+
			"this machine", dns.Name)
	case errors.As(err, &unknown):
		return at + " has a TLS certificate that is signed by an authority unknown to this machine; name the file of " +
			"its root certificate as sslrootcert in the URL"
	case errors.As(err, &name):
		return at + " has a TLS certificate for another host; use the host of the certificate in the URL"
	case errors.As(err, &certificate):
		return fmt.Sprintf("%s has a TLS certificate that is not valid: %v; replace the certificate", at,
			certificate.Err)
	case strings.Contains(err.Error(), "server refused TLS connection"): // pgx has no value for it
		return at + " does not offer TLS, and sslmode demands it; turn TLS on there (ssl = on), or set " +
			"sslmode=disable in the URL if the network is trusted"
	case errors.As(err, &record), errors.As(err, &alert), strings.Contains(err.Error(), "tls error:"):
		return at + " does not agree on TLS; check its certificates, and those that the URL names"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return "nothing answers at " + servers(connect.Config) + "; start PostgreSQL there, or correct host and port " +
			"in the URL"
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return at + " does not answer in time; correct host and port in the URL, or check for a firewall in between"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return at + " cannot be reached from this machine; correct the host in the URL, or check the network"
	}
	return ""
}

// answered is postgresCause for an answer of PostgreSQL, by its code (PostgreSQL documentation, appendix A). Two causes
// of one code differ in the function that reports them, because messages are translated.
func answered(pg *pgconn.PgError, at, user, database string, password, encrypted bool) string {
	switch {
	case pg.Code == "28P01" && !password:
		return fmt.Sprintf("%s asks for the password of the user %q, and the URL has none; add it to the URL in the "+
			"environment or the file", at, user)
	case pg.Code == "28P01":
		return fmt.Sprintf("%s does not accept the password of the user %q; correct user and password in the URL", at,
			user)
	case pg.Code == "28000" && pg.Routine == "InitializeSessionUserId":
		return fmt.Sprintf("%s has no user %q that may log in; correct the user in the URL, or create it with: "+
			"createuser --pwprompt %s", at, user, user)
	case pg.Code == "28000" && !encrypted:
		return fmt.Sprintf("%s does not let the user %q in from this machine without TLS; set sslmode=verify-full in "+
			"the URL, or add a line to its pg_hba.conf", at, user)
	case strings.HasPrefix(pg.Code, "28"):
		return fmt.Sprintf("%s does not let the user %q in from this machine; add a line to its pg_hba.conf", at, user)
	case pg.Code == "3D000":
		return fmt.Sprintf("%s has no database %q; correct the name in the URL, or create it with: createdb %s", at,
			database, database)
	case pg.Code == "42501":
		return fmt.Sprintf("%s does not allow it to this user (%s); make the user the owner of the database", at,
			pg.Message)
	case pg.Code == "53300":
		return at + " has too many connections; raise its max_connections, or end what does not need one"
	case pg.Code == "53100":
		return at + " has no space left on its disk; make room there"
	case pg.Code == "57P03", pg.Code == "57P01", pg.Code == "57P02":
		return at + " is starting or stopping; try again when it is up"
	case pg.Code == "40P01", pg.Code == "40001":
		return "another change at the same moment stood in the way, and nothing was changed; try again"
	case pg.Code == "25006":
		return at + " accepts no writes, because it is a standby or read-only; name the primary in the URL"
	}
	return ""
}

// servers returns the addresses that a configuration names.
func servers(config *pgconn.Config) string {
	address := func(host string, port uint16) string {
		if strings.HasPrefix(host, "/") { // a folder of sockets
			return fmt.Sprintf("%s (port %d)", host, port)
		}
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	all := []string{address(config.Host, config.Port)}
	for _, other := range config.Fallbacks {
		if a := address(other.Host, other.Port); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return strings.Join(all, ", ")
}

// sqliteCause is Cause for SQLite, without the key.
func sqliteCause(err error) string {
	path := "the file"
	if file := (*fileError)(nil); errors.As(err, &file) {
		path = file.path
		if denied := (*fs.PathError)(nil); errors.As(err, &denied) {
			return fmt.Sprintf("%s cannot be used: %v; name one that you may write to, with --data-dir or --database",
				path, denied)
		}
	}
	lite := (*modernc.Error)(nil)
	if !errors.As(err, &lite) {
		return ""
	}
	switch lite.Code() & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return path + " is not a SQLite database; name another file, or move this one away"
	case sqlite3.SQLITE_CORRUPT:
		return path + " is damaged; restore it from a backup"
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return path + " is locked by another program; end that program, or wait until it is done"
	case sqlite3.SQLITE_READONLY:
		return path + " can only be read; let this account write to it and to its folder"
	case sqlite3.SQLITE_CANTOPEN:
		return path + " cannot be opened; check that its folder exists and that this account may write to it"
	case sqlite3.SQLITE_FULL:
		return path + " cannot grow, because the disk is full; make room"
	case sqlite3.SQLITE_IOERR:
		return path + " cannot be read or written, because the disk fails; check the disk"
	}
	return ""
}
