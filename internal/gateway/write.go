package gateway

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Entry is a server to write into a configuration: the tools in the file Reviewed are open, and nothing else is.
type Entry struct {
	Name     string   `yaml:"name"`
	Path     string   `yaml:"path"`
	Upstream string   `yaml:"upstream,omitempty"`
	Command  []string `yaml:"command,omitempty,flow"`
	Scopes   []string `yaml:"scopes,omitempty,flow"`
	Reviewed string   `yaml:"reviewed"`
}

// FreeName returns name, or name with a number behind it, so that no server in the configuration in path has it. It
// returns name if there is no such file, and an error if the configuration cannot be read.
func FreeName(path, name string) (string, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return name, nil
	}
	c, err := load(path, &Config{Listen: defaultListen, unwritten: true})
	if err != nil {
		return "", err
	}
	return numbered(name, func(try string) bool {
		return !slices.ContainsFunc(c.Servers, func(s *Server) bool { return s.Name == try })
	}), nil
}

// FreeFile returns the name of a file in folder for the reviewed tools of a server. It is not a file that has the tools
// of another resource, because a server of the same name may be behind another gateway.
func FreeFile(folder, name, resource string) string {
	const suffix = ".tools.json"
	return numbered(name, func(try string) bool {
		text, err := readFile(filepath.Join(folder, try+suffix))
		var file Reviewed
		return errors.Is(err, os.ErrNotExist) || err == nil && json.Unmarshal(text, &file) == nil &&
			file.Resource == resource
	}) + suffix
}

// numbered returns the first of name, name-2, name-3 and so on that is free.
func numbered(name string, free func(string) bool) string {
	try := name
	for i := 2; !free(try); i++ {
		try = fmt.Sprintf("%s-%d", name, i)
	}
	return try
}

// ErrLayout says that a configuration is written in a form that cannot be added to without changing it.
var ErrLayout = errors.New("gateway: the file cannot be added to")

// AddServer writes e into the configuration in path, which it makes if there is none, for issuer and public. What else
// is in the file stays as it is, with its comments. It returns ErrLayout if servers is not the last key of the file, or
// is not a list with a line for each key.
func AddServer(path, issuer, public string, e Entry) error {
	text, err := readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		head, err := yaml.Marshal(struct {
			Issuer string `yaml:"issuer"`
			Public string `yaml:"public"`
			Listen string `yaml:"listen"`
		}{issuer, public, listenOf(public)})
		if err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		text = append(head, "servers:\n"...)
		item, err := e.lines(2)
		if err != nil {
			return err
		}
		return writeChecked(path, append(text, item...))
	}
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	list, err := serversOf(text)
	if err != nil {
		return err
	}
	item, err := e.lines(list.Content[0].Column - 3) // before the hyphen and the space
	if err != nil {
		return err
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	return writeChecked(path, append(text, item...))
}

// listenOf returns where a gateway listens that clients reach at public: there, if that is this machine, or else behind
// a proxy.
func listenOf(public string) string {
	u, err := url.Parse(public)
	if err != nil || u.Scheme != "http" {
		return defaultListen
	}
	host := u.Hostname()
	if net.ParseIP(host) == nil {
		host = "127.0.0.1" // localhost, or a name below it
	}
	return net.JoinHostPort(host, cmp.Or(u.Port(), "80"))
}

// AddReviewed writes the key reviewed into the configuration in path, for the server with a name.
func AddReviewed(path, name, file string) error {
	text, err := readFile(path)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	list, err := serversOf(text)
	if err != nil {
		return err
	}
	for _, item := range list.Content {
		for i := 0; i+1 < len(item.Content); i += 2 {
			if key, value := item.Content[i], item.Content[i+1]; key.Value == "name" && value.Value == name {
				quoted, err := yaml.Marshal(file)
				if err != nil {
					return fmt.Errorf("gateway: %w", err)
				}
				lines := strings.SplitAfter(string(text), "\n")
				line := strings.Repeat(" ", key.Column-1) + "reviewed: " + string(quoted)
				return writeChecked(path, []byte(strings.Join(slices.Insert(lines, value.Line, line), "")))
			}
		}
	}
	return fmt.Errorf("%w: it has no server %s", ErrLayout, name)
}

// serversOf returns the list of servers in a configuration that can be added to.
func serversOf(text []byte) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil || document.Kind == 0 {
		return nil, fmt.Errorf("%w: it is not YAML", ErrLayout)
	}
	top := document.Content[0]
	n := len(top.Content)
	if top.Kind != yaml.MappingNode || top.Style == yaml.FlowStyle || n < 2 || top.Content[n-2].Value != "servers" {
		return nil, fmt.Errorf("%w: servers is not its last key", ErrLayout)
	}
	list := top.Content[n-1]
	if list.Kind != yaml.SequenceNode || list.Style == yaml.FlowStyle || len(list.Content) == 0 ||
		slices.ContainsFunc(list.Content, func(item *yaml.Node) bool {
			return item.Kind != yaml.MappingNode || item.Style == yaml.FlowStyle || item.Column < 3
		}) {
		return nil, fmt.Errorf("%w: servers is not a list with a line for each key", ErrLayout)
	}
	return list, nil
}

// lines returns the entry as an item of a list whose hyphen stands after indent spaces.
func (e Entry) lines(indent int) (string, error) {
	text, err := yaml.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("gateway: %w", err)
	}
	var item strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		start := "  "
		if i == 0 {
			start = "- "
		}
		item.WriteString(strings.Repeat(" ", indent) + start + line + "\n")
	}
	return item.String(), nil
}

// writeChecked writes a configuration in one step, if Load can read it.
func writeChecked(path string, text []byte) error {
	return replace(path, text, func(temporary string) error {
		_, err := Load(temporary)
		if err != nil {
			return fmt.Errorf("%s would not be a configuration any more: %w", path, err)
		}
		return nil
	})
}

// WriteReviewed writes the file that the key reviewed names, in one step.
func WriteReviewed(path string, r Reviewed) error {
	text, err := MarshalReviewed(r)
	if err != nil {
		return err
	}
	return replace(path, text, func(string) error { return nil })
}

// replace writes a file in one step, if check of the new one returns nil. A file that is there keeps its mode.
func replace(path string, text []byte, check func(temporary string) error) (err error) {
	mode := os.FileMode(0o644)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	if err := check(f.Name()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}
