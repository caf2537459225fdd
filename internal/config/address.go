package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

// Address is where a server listens: at a TCP port, a Unix socket, or a socket that systemd passes.
type Address struct {
	TCP     string      // "host:port"; an empty host means all addresses
	Path    string      // of a Unix socket
	Mode    fs.FileMode // of the Unix socket
	Systemd bool
	Name    string // of the socket of systemd; "" for the only one
}

// socketMode lets the account of the server and its group connect.
const socketMode = 0o660

// ParseAddress reads an address: "127.0.0.1:8080" or ":8080"; "unix:/run/cardea.sock", which may end in "?mode=0666";
// "systemd", or "systemd:NAME" for one of several sockets. The error says how to write one.
func ParseAddress(text string) (a Address, err error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		path, mode, given := strings.Cut(path, "?mode=")
		a = Address{Path: path, Mode: socketMode}
		if !filepath.IsAbs(path) || strings.Contains(path, "?") {
			return a, fmt.Errorf("%.200q is not the path of a socket; write it like unix:/run/cardea/cardea.sock, or "+
				"unix:/run/cardea/cardea.sock?mode=0666", path)
		}
		if given {
			bits, err := strconv.ParseUint(mode, 8, 32)
			if err != nil || bits > 0o777 {
				return a, fmt.Errorf("%.20q is not a mode; write it like ?mode=0660", mode)
			}
			a.Mode = fs.FileMode(bits)
		}
		return a, nil
	}
	if name, ok := strings.CutPrefix(text, "systemd"); ok && (name == "" || name[0] == ':') {
		if name == ":" {
			return a, errors.New("the name after systemd: is missing")
		}
		return Address{Systemd: true, Name: strings.TrimPrefix(name, ":")}, nil
	}
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return a, fmt.Errorf("%.100q is not an address", text)
	}
	return Address{TCP: text}, nil
}
