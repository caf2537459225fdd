package guard

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// Definition is a tool as its MCP server lists it: its name, its schemas, its annotations, and all else that it says of
// itself. A person and a model rely on all of it.
type Definition struct {
	Name string
	// Text is the definition as JSON in a canonical form: the members of each object sorted, without white space. So
	// a server that lists the same in another order has not changed the tool.
	Text []byte
	// Hash is the SHA-256 of Text, as "sha256:" and 64 hexadecimal digits.
	Hash string
}

// ParseDefinition reads an item of the result of tools/list. The error says that it is not a tool, or that two programs
// could read it differently: a member is there twice, or the nesting is too deep.
func ParseDefinition(item []byte) (Definition, error) {
	if err := checkJSON(item); err != nil {
		return Definition{}, fmt.Errorf("guard: the definition of a tool: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(item))
	d.UseNumber() // a number stays as it is written
	var members map[string]any
	if err := d.Decode(&members); err != nil {
		return Definition{}, errors.New("guard: the definition of a tool is not an object")
	}
	name, _ := members["name"].(string)
	if name == "" {
		return Definition{}, errors.New("guard: the definition of a tool has no name")
	}
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(members); err != nil {
		return Definition{}, fmt.Errorf("guard: the definition of a tool: %w", err)
	}
	canonical := bytes.TrimSpace(text.Bytes())
	sum := sha256.Sum256(canonical)
	return Definition{name, canonical, "sha256:" + hex.EncodeToString(sum[:])}, nil
}
