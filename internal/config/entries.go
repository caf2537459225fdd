package config

import (
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// placed is an error that names its place in the file.
type placed struct{ error }

// entries says how a key is read whose value is a list of entries with keys of their own, such as login.providers.
type entries[T any] struct {
	key     string                                 // such as login.providers
	keys    []string                               // those of an entry, in the order in which they are set
	sample  string                                 // the first line of an entry, for errors: name: siem
	example string                                 // a list in JSON, for errors
	base    T                                      // an entry before its keys are set
	set     func(*T, string, *yaml.Node) error     // sets a key of an entry
	check   func(*T, []T, func(string) bool) error // completes an entry, given those before it and which keys are set
}

// parse reads the list in one YAML or JSON text, as an environment variable has it.
func (l *entries[T]) parse(text string) ([]T, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || document.Kind == 0 {
		return nil, errors.New("expected a list like " + l.example)
	}
	return l.read(l.key, document.Content[0])
}

// read reads the list at a node of the file at path.
func (l *entries[T]) read(path string, node *yaml.Node) (all []T, err error) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil, nil
	}
	if node.Kind != yaml.SequenceNode {
		return nil, errors.New("expected a list whose items begin with - " + l.keys[0] + ": …")
	}
	for _, item := range node.Content {
		entry, at, err := l.entry(item, all)
		if err != nil {
			return nil, &placed{fmt.Errorf("%s:%d: %s: %w", path, at.Line, l.key, err)}
		}
		all = append(all, entry)
	}
	return all, nil
}

// entry reads the entry at item, which follows those before. at is the place of the error.
func (l *entries[T]) entry(item *yaml.Node, before []T) (entry T, at *yaml.Node, err error) {
	entry = l.base
	if item.Kind != yaml.MappingNode {
		return entry, item, errors.New("expected keys with values, such as " + l.sample)
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(item.Content); i += 2 {
		key := item.Content[i]
		switch {
		case !slices.Contains(l.keys, key.Value):
			return entry, key, fmt.Errorf("unknown key %q; the nearest known one is %q", key.Value,
				nearest(key.Value, l.keys))
		case values[key.Value] != nil:
			return entry, key, fmt.Errorf("%s is set twice; remove one", key.Value)
		}
		values[key.Value] = item.Content[i+1]
	}
	for _, key := range l.keys { // in their order, so that the same file has the same error
		if node := values[key]; node != nil {
			if err := l.set(&entry, key, node); err != nil {
				return entry, node, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	return entry, item, l.check(&entry, before, func(key string) bool { return values[key] != nil })
}
