package ledger

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"unicode"

	"github.com/cardea-auth/cardea/internal/audit"
)

// Syslog returns a receiver that sends each event as a message of RFC 5424 with the event as JSON. address is
// udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT (RFC 5425) or unix:/dev/log. An event counts as sent when the
// operating system has taken it, because syslog has no answer.
func Syslog(address string) (Receiver, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Receiver{}, errSyslog
	}
	network, at := u.Scheme, u.Host
	switch network {
	case "udp", "tcp", "tls":
		if u.Hostname() == "" || u.Port() == "" || u.Path != "" || u.User != nil {
			return Receiver{}, errSyslog
		}
	case "unix":
		if network, at = "unixgram", u.Path; at == "" {
			return Receiver{}, errSyslog
		}
	default:
		return Receiver{}, errSyslog
	}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	return Receiver{Name: "syslog", Send: func(ctx context.Context, m Message) error {
		connection, err := dial(ctx, network, at)
		if err != nil {
			return err
		}
		if end, ok := ctx.Deadline(); ok {
			if err := connection.SetDeadline(end); err != nil {
				return errors.Join(err, connection.Close())
			}
		}
		return errors.Join(send(connection, network, host, m), connection.Close())
	}}, nil
}

var errSyslog = errors.New("write it like udp://127.0.0.1:514, tcp://HOST:PORT, tls://HOST:PORT or unix:/dev/log")

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "tls" {
		return (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func send(to net.Conn, network, host string, m Message) error {
	for _, e := range m.Events {
		line, err := syslogLine(host, e)
		if err != nil {
			return err
		}
		datagrams := network == "udp" || network == "unixgram"
		if !datagrams { // octet counting, because a stream has no messages
			line = append(fmt.Appendf(nil, "%d ", len(line)), line...)
		}
		_, err = to.Write(line)
		if err != nil && datagrams && len(line) > sureDatagram && (e.Before != nil || e.After != nil) {
			// Perhaps it is too long, and would be again. Only the changes are that long.
			e.Before, e.After = nil, nil
			e.Event = e.With("changes", "too long for syslog by datagrams")
			if line, err = syslogLine(host, e); err == nil {
				_, err = to.Write(line)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sureDatagram is the size of a message in bytes that every system sends as one datagram.
const sureDatagram = 8 << 10

// The priorities are facility 13, log audit, with informational and warning.
const (
	informational = 13*8 + 6
	warning       = 13*8 + 4
)

func syslogLine(host string, e Numbered) ([]byte, error) {
	priority := informational
	if e.Outcome != audit.Allowed {
		priority = warning
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("ledger: syslog: %w", err)
	}
	line := fmt.Appendf(nil, "<%d>1 %s %s cardea %d %s - ", priority, e.At.UTC().Format("2006-01-02T15:04:05.000000Z"),
		word(host, 255), os.Getpid(), word(e.Action, 32))
	return append(line, bytes.TrimSpace(audit.Escaped(text))...), nil
}

// word returns text as a word of a header of at most limit characters.
func word(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, text)
	if text == "" {
		return "-"
	}
	return text[:min(len(text), limit)]
}
