package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// Sources are the sources of a configuration. Each overrides the ones before it; all may be empty.
type Sources struct {
	File    string            // path of a YAML file; "" for none
	Environ []string          // as returned by os.Environ
	Flags   map[string]string // value by key name
}

// Loaded is a configuration and the sources of its values.
type Loaded struct {
	Config
	secretInFile bool // the file has the secret of a provider or webhook
	// Warnings are sentences about problems that do not prevent a start.
	Warnings []string
}

// Load reads and checks the configuration. An error is one sentence that names the place (file and line, variable or
// flag) and says how to fix it; it never quotes a secret.
func Load(s Sources) (*Loaded, error) {
	l := &Loaded{Config: Config{from: map[string]string{}}}
	for _, f := range fields {
		if err := l.set(f, f.Default, "default"); err != nil {
			return nil, err
		}
	}
	l.Database = "" // its default depends on data_dir
	if s.File != "" {
		if err := l.readFile(s.File); err != nil {
			return nil, err
		}
	}
	if err := l.readEnvironment(s.Environ); err != nil {
		return nil, err
	}
	for _, f := range fields {
		if value, ok := s.Flags[f.Name]; ok {
			if err := l.set(f, value, "flag"); err != nil {
				return nil, fmt.Errorf("--%s: %w", strings.NewReplacer("_", "-", ".", "-").Replace(f.Name), err)
			}
		}
	}
	if err := l.readSecrets(); err != nil {
		return nil, err
	}
	if l.Database == "" {
		l.Database = "sqlite:" + filepath.Join(l.DataDir, "cardea.db")
	}
	if l.Login.External.URL != "" && l.from["login.methods"] == "default" {
		l.Login.Methods = nil
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	return l, nil
}

// readSecrets reads the URLs that stand in files of their own. A flag overrides such a file.
func (l *Loaded) readSecrets() (err error) {
	for _, s := range []struct {
		name, file string
		at         *string
	}{{"database", l.DatabaseFile, &l.Database}, {"mail.smtp", l.MailFile, &l.Mail.SMTP}} {
		switch {
		case s.file == "", l.from[s.name] == "flag":
			continue
		case *s.at != "":
			return fmt.Errorf("%s and %[1]s_file are both set; keep one", s.name)
		}
		if *s.at, err = ReadSecret(s.file); err != nil {
			return fmt.Errorf("%s_file: %w", s.name, err)
		}
		l.from[s.name] = l.from[s.name+"_file"]
	}
	return nil
}

func (l *Loaded) set(f field, value, from string) error {
	if value == "" && from != "flag" {
		return nil // an empty value means the default
	}
	l.from[f.Name] = from
	return parse(f.at(&l.Config), value)
}

// Setting is a key and its value.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"` // secrets masked; "" for none
	From  string `json:"from"`  // "default", "file", "environment" or "flag"
}

// Settings returns all keys with their values, in the order of Keys. Secrets are masked.
func (c *Config) Settings() []Setting {
	all := make([]Setting, len(fields))
	for i, f := range fields {
		value := format(f.at(c))
		if f.mask != nil && value != "" {
			value = f.mask(value)
		}
		from := c.from[f.Name]
		if from == "" {
			from = "default"
		}
		all[i] = Setting{Key: f.Name, Value: value, From: from}
	}
	return all
}

func (l *Loaded) readFile(path string) error {
	text, err := ReadFile(path)
	switch {
	case errors.As(err, new(emptyError)): // it changes nothing
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the configuration file %s does not exist; correct the path, or create the file", path)
	case err != nil:
		return fmt.Errorf("the configuration: %w; check the path and its permissions", err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if document.Kind == 0 {
		return nil // empty, or only comments
	}
	if err := l.readMapping(path, "", document.Content[0], map[string]bool{}); err != nil {
		return err
	}
	return l.warnOfReaders(path)
}

// warnOfReaders adds a warning if the file contains a secret and every user can read it.
func (l *Loaded) warnOfReaders(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("the configuration file cannot be read: %w; check the path and its permissions", err)
	}
	secret := ""
	switch {
	case l.from["master_key"] == "file":
		secret = "master_key"
	case l.secretInFile:
		secret = "a client_secret"
	case l.from["mail.smtp"] == "file" && HoldsPassword(l.Mail.SMTP):
		secret = "the mail server's password"
	case l.from["database"] == "file" && HoldsPassword(l.Database):
		secret = "the database's password"
	}
	if secret != "" && info.Mode().IsRegular() && info.Mode()&0o004 != 0 {
		l.Warnings = append(l.Warnings, fmt.Sprintf("%s contains %s, and every user of this machine can read it; "+
			"run: chmod 600 %s", path, secret, path))
	}
	return nil
}

// readMapping sets the keys of one mapping of the file. section is their prefix, "tokens." or "".
func (l *Loaded) readMapping(path, section string, node *yaml.Node, seen map[string]bool) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil // an empty section
	}
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("%s:%d: expected keys with values, such as issuer: https://auth.example.com", path, node.Line)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := section + key.Value
		at := slices.IndexFunc(fields, func(f field) bool { return f.Name == name })
		switch {
		case seen[name]:
			return fmt.Errorf("%s:%d: %s is set twice; remove one", path, key.Line, name)
		case at >= 0:
			err := l.setNode(path, fields[at], value)
			if place := (*placed)(nil); errors.As(err, &place) {
				return place
			}
			if err != nil {
				return fmt.Errorf("%s:%d: %s: %w", path, key.Line, name, err)
			}
		case isSection(name):
			if err := l.readMapping(path, name+".", value, seen); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s:%d: unknown key %q; the nearest known one is %q", path, key.Line, name,
				nearest(name, names()))
		}
		seen[name] = true
	}
	return nil
}

// setNode sets a key to a value of the file.
func (l *Loaded) setNode(path string, f field, value *yaml.Node) error {
	if at, ok := f.at(&l.Config).(*[]upstream.Config); ok {
		l.from[f.Name] = "file"
		l.secretInFile = l.secretInFile || has(value, "client_secret")
		var err error
		*at, err = providers.read(path, value)
		return err
	}
	if at, ok := f.at(&l.Config).(*[]ledger.Webhook); ok {
		l.from[f.Name] = "file"
		l.secretInFile = l.secretInFile || has(value, "secret")
		var err error
		*at, err = webhooks.read(path, value)
		return err
	}
	text, err := scalar(value)
	if err != nil {
		return err
	}
	return l.set(f, text, "file")
}

// scalar returns the text of a value; the items of a list are joined by commas.
func scalar(node *yaml.Node) (string, error) {
	switch {
	case node.Kind == yaml.AliasNode:
		return scalar(node.Alias)
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return "", nil
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind != yaml.SequenceNode:
		return "", errors.New("expected one value or a list of values")
	}
	var items []string
	for _, item := range node.Content {
		if item.Kind != yaml.ScalarNode {
			return "", errors.New("expected a list of plain values")
		}
		items = append(items, item.Value)
	}
	return strings.Join(items, ","), nil
}

// commandVariables are read by the commands themselves.
var commandVariables = []string{
	"CARDEA_CONFIG", "CARDEA_SERVER", "CARDEA_TOKEN", "CARDEA_TOKEN_FILE", "CARDEA_CLIENT_ID", "CARDEA_CLIENT_SECRET",
	"CARDEA_CLIENT_SECRET_FILE",
}

func (l *Loaded) readEnvironment(environ []string) error {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "CARDEA_") {
			continue
		}
		at := slices.IndexFunc(fields, func(f field) bool { return f.Variable() == name })
		switch {
		case at >= 0:
			if err := l.set(fields[at], value, "environment"); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case slices.Contains(commandVariables, name), strings.HasPrefix(name, "CARDEA_TEST_"):
		default:
			l.Warnings = append(l.Warnings, fmt.Sprintf("the environment variable %s is unknown and ignored; the "+
				"nearest known one is %s", name, nearest(name, variables())))
		}
	}
	slices.Sort(l.Warnings)
	return nil
}

func isSection(name string) bool {
	return slices.ContainsFunc(fields, func(f field) bool { return strings.HasPrefix(f.Name, name+".") })
}

func names() []string {
	var all []string
	for _, f := range fields {
		all = append(all, f.Name)
	}
	return all
}

func variables() []string {
	var all []string
	for _, f := range fields {
		all = append(all, f.Variable())
	}
	return all
}
