package declare

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-auth/cardea/internal/admin"
)

// Export returns the file that declares what there is: groups with their members, MCP servers, and the clients that
// operators made, but for API credentials, each sorted by what the file knows it by. It needs the right to read all of
// them. The notes say what the file cannot declare. What somebody changes meanwhile may be in the file or not.
func Export(ctx context.Context, o *admin.Operations, by admin.Caller) (file []byte, notes []string, err error) {
	i := &installation{o, ctx, by, 0}
	f := File{Version: version, Groups: []Group{}, Resources: []Resource{}, Clients: []Client{}}
	groups, err := i.groups()
	if err != nil {
		return nil, nil, err
	}
	for _, g := range groups {
		whole, err := i.group(g.Name)
		if err != nil {
			return nil, nil, err
		}
		f.Groups = append(f.Groups, whole)
	}
	resources, err := i.resources()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range resources {
		f.Resources = append(f.Resources, ofResource(r))
	}
	clients, notes, err := i.clients()
	if err != nil {
		return nil, nil, err
	}
	for _, c := range clients {
		f.Clients = append(f.Clients, ofClient(c))
	}
	slices.SortFunc(f.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(f.Resources, func(a, b Resource) int { return strings.Compare(a.Identifier, b.Identifier) })
	slices.SortFunc(f.Clients, func(a, b Client) int { return strings.Compare(a.ID, b.ID) })
	file, err = f.encode()
	return file, notes, err
}

// header begins an exported file.
const header = `# The groups, MCP servers and clients of a Cardea installation, without secrets.
# cardea apply -f FILE makes an installation what this file says; with --dry-run it only prints the difference.
`

func (f File) encode() ([]byte, error) {
	b := bytes.NewBufferString(header)
	encoder := yaml.NewEncoder(b)
	encoder.SetIndent(2)
	if err := encoder.Encode(f); err != nil {
		return nil, err
	}
	return b.Bytes(), encoder.Close()
}

// MarshalYAML implements yaml.Marshaler: JSON is YAML.
func (k Keys) MarshalYAML() (any, error) {
	if len(k) == 0 {
		return nil, nil
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(canonical(k)), &document); err != nil {
		return nil, err
	}
	set := document.Content[0]
	set.Style = 0
	for _, list := range set.Content {
		list.Style = 0
	}
	return set, nil
}

// IsZero reports whether there are no keys.
func (k Keys) IsZero() bool { return len(k) == 0 }

// canonical returns k with its members sorted and without white space, as it is if it is not JSON.
func canonical(k Keys) string {
	decoder := json.NewDecoder(bytes.NewReader(k))
	decoder.UseNumber() // as they are written
	var value any
	if decoder.Decode(&value) != nil {
		return string(k)
	}
	text, err := json.Marshal(value)
	if err != nil {
		return string(k)
	}
	return string(text)
}
