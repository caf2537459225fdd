package gateway

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/scope"
)

// faultError says what is wrong at a line of the configuration.
type faultError struct {
	line int
	text string
}

func (e *faultError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

func faultAt(n *yaml.Node, format string, args ...any) error {
	return &faultError{n.Line, fmt.Sprintf(format, args...)}
}

// fields has for each key what reads its value. The string is the key with all keys above it.
type fields map[string]func(*yaml.Node, string) error

// members reads a mapping whose keys are those of f; path is what stands before a key in errors.
func members(n *yaml.Node, path string, f fields) error {
	if n.Kind != yaml.MappingNode {
		return faultAt(n, "%s must be keys with values", whole(path))
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, known := f[key.Value]
		switch {
		case !known:
			return faultAt(key, "%s%s is not a key; did you mean %s?", path, key.Value,
				scope.Nearest(key.Value, slices.Sorted(maps.Keys(f))))
		case seen[key.Value]:
			return faultAt(key, "%s%s is there twice", path, key.Value)
		case value.Kind == yaml.AliasNode:
			return faultAt(key, "%s%s is an alias; write the value out", path, key.Value)
		}
		seen[key.Value] = true
		if err := read(value, path+key.Value); err != nil {
			return err
		}
	}
	return nil
}

func whole(path string) string {
	if path == "" {
		return "the file"
	}
	return strings.TrimSuffix(path, ".")
}

func scalar(n *yaml.Node, key string) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", faultAt(n, "%s must have one value", key)
	}
	return n.Value, nil
}

func text(to *string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) (err error) {
		*to, err = scalar(n, key)
		return err
	}
}

func texts(to *[]string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		if n.Kind != yaml.SequenceNode {
			return faultAt(n, "%s must be a list", key)
		}
		*to = []string{}
		for _, item := range n.Content {
			value, err := scalar(item, key)
			if err != nil {
				return err
			}
			*to = append(*to, value)
		}
		return nil
	}
}

func oneOf(to *string, allowed ...string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) (err error) {
		if *to, err = scalar(n, key); err == nil && !slices.Contains(allowed, *to) {
			return faultAt(n, "%s is %q; it must be %s", key, *to, strings.Join(allowed, " or "))
		}
		return err
	}
}

func allowOrDeny(to *bool, n *yaml.Node, key string) error {
	var value string
	err := oneOf(&value, "deny", "allow")(n, key)
	*to = value == "allow"
	return err
}

// callRate reads a number of calls and a time, as 60/1m.
func callRate(to *guard.Rate) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		value, err := scalar(n, key)
		if err != nil {
			return err
		}
		count, per, _ := strings.Cut(value, "/")
		to.Requests, err = strconv.Atoi(count)
		if err == nil {
			to.Per, err = time.ParseDuration(per)
		}
		if err != nil || to.Requests <= 0 || to.Per <= 0 {
			return faultAt(n, "%s is %q; write a number of calls and a time, as 60/1m", key, value)
		}
		return nil
	}
}

// size reads a number of bytes, as 4MB.
func size(to *int64) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		value, err := scalar(n, key)
		if err != nil {
			return err
		}
		number, unit := value, int64(1)
		for suffix, bytes := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20} {
			if rest, ok := strings.CutSuffix(value, suffix); ok {
				number, unit = rest, bytes
			}
		}
		count, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
		if *to = count * unit; err != nil || *to <= 0 || *to > maxBody {
			return faultAt(n, "%s is %q; write a size up to 64MB, as 4MB", key, value)
		}
		return nil
	}
}

func number(to *int) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		value, err := scalar(n, key)
		if err != nil {
			return err
		}
		if *to, err = strconv.Atoi(value); err != nil || *to < 1 || *to > 10_000 {
			return faultAt(n, "%s is %q; it must be a number from 1 to 10000", key, value)
		}
		return nil
	}
}

func duration(to *time.Duration) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		value, err := scalar(n, key)
		if err != nil {
			return err
		}
		if *to, err = time.ParseDuration(value); err != nil || *to <= 0 {
			return faultAt(n, "%s is %q; write a time, as 15m", key, value)
		}
		return nil
	}
}

// variables reads environment variables, each a literal or {file: PATH}.
func variables(to *[]string, folder string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		return literals(n, key, folder, func(item *yaml.Node, name, value string) error {
			if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
				return faultAt(item, "%s.%s is not an environment variable", key, name)
			}
			*to = append(*to, name+"="+value)
			return nil
		})
	}
}

// literals reads a mapping whose values are literals or {file: PATH}.
func literals(n *yaml.Node, key, folder string, each func(item *yaml.Node, name, value string) error) error {
	if n.Kind != yaml.MappingNode {
		return faultAt(n, "%s must be names with values", key)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, item, value := n.Content[i].Value, n.Content[i+1], ""
		read := text(&value)
		if item.Kind == yaml.MappingNode {
			read = func(n *yaml.Node, key string) error {
				return members(n, key+".", fields{"file": file(&value, folder)})
			}
		}
		if err := read(item, key+"."+name); err != nil {
			return err
		}
		if err := each(item, name, value); err != nil {
			return err
		}
	}
	return nil
}

// credentials reads id with secret or secret_file.
func credentials(to **guard.Credentials, folder string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		c := &guard.Credentials{}
		err := members(n, key+".", fields{
			"id":          text(&c.ClientID),
			"secret":      text(&c.ClientSecret),
			"secret_file": file(&c.ClientSecret, folder),
		})
		if err == nil && (c.ClientID == "" || c.ClientSecret == "") {
			return faultAt(n, "%s needs id and secret_file", key)
		}
		*to = c
		return err
	}
}

// secrets reads headers, each a literal or {file: PATH}.
func secrets(to http.Header, folder string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		return literals(n, key, folder, func(item *yaml.Node, name, value string) error {
			canonical := textproto.CanonicalMIMEHeaderKey(name)
			switch {
			case !isToken(name) || strings.ContainsAny(value, "\r\n\x00"):
				return faultAt(item, "%s.%s is not a header", key, name)
			case strings.HasPrefix(canonical, "Mcp-") || slices.Contains(ours, canonical):
				return faultAt(item, "%s.%s is set by the gateway itself; leave it out", key, name)
			}
			to.Set(canonical, value)
			return nil
		})
	}
}

// ours are the headers that decide how a request is read, which the configuration cannot set.
var ours = []string{"Host", "Content-Type", "Content-Length", "Content-Encoding", "Transfer-Encoding", "Connection",
	"Accept", "Accept-Encoding", "Last-Event-Id", "Upgrade", "Te", "Trailer", "Cardea-Identity"}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
	})
}

// pathIn reads the path of a file, which is relative to folder.
func pathIn(folder string, n *yaml.Node, key string) (string, error) {
	path, err := scalar(n, key)
	if err == nil && !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	return path, err
}

// file reads a value from a file, whose path is relative to folder, without white space around it.
func file(to *string, folder string) func(*yaml.Node, string) error {
	return func(n *yaml.Node, key string) error {
		path, err := pathIn(folder, n, key)
		if err != nil {
			return err
		}
		content, err := readFile(path)
		if err != nil {
			return faultAt(n, "%s: the file cannot be read: %v; check the path and its permissions", key, err)
		}
		if *to = strings.TrimSpace(strings.TrimPrefix(string(content), "\ufeff")); *to == "" {
			return faultAt(n, "%s: %s is empty", key, path)
		}
		return nil
	}
}

// maxFile is the largest size of a file that an operator names, in bytes, because a device or a pipe may never end.
const maxFile = 4 << 20

// readFile returns what is in such a file. It returns an error if that is too large.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d MB", path, maxFile>>20)
	}
	return text, err
}
