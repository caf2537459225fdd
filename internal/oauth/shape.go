package oauth

import (
	"encoding/json"
	"errors"

	"github.com/cardea-auth/cardea/scope"
)

// TokenShape is the form in which an access token, and the introspection response for it, name the resource and the
// scopes.
type TokenShape string

// The shapes of tokens.
const (
	// ShapeStandard has aud as one string, and the scopes in scope (RFC 9068 §2.2).
	ShapeStandard TokenShape = "standard"
	// ShapeLists has aud as a list of one string (RFC 7519 §4.1.3), and the scopes as a list in scopes, too. MCP
	// servers that were written for another authorization server read them there.
	ShapeLists TokenShape = "lists"
)

// TokenShapes are all shapes of tokens.
var TokenShapes = []TokenShape{ShapeStandard, ShapeLists}

// Aud returns the value of aud for a resource.
func (s TokenShape) Aud(resource string) any {
	if s == ShapeLists {
		return []string{resource}
	}
	return resource
}

// Scopes returns the value of scopes, or nil if there is none in this shape.
func (s TokenShape) Scopes(granted scope.Set) []string {
	if s == ShapeLists {
		return append([]string{}, granted...)
	}
	return nil
}

// Shaped returns c with aud and the scopes, which are granted, in the shape s, for JSON.
func (c *Claims) Shaped(s TokenShape, granted scope.Set) any {
	if s != ShapeLists {
		return c
	}
	return struct {
		*Claims
		Audience any      `json:"aud"`
		Scopes   []string `json:"scopes"`
	}{c, s.Aud(c.Audience), s.Scopes(granted)}
}

// UnmarshalJSON reads the claims of an access token of any shape.
func (c *Claims) UnmarshalJSON(data []byte) error {
	type plain Claims // without this method
	read := struct {
		*plain
		Audience audience `json:"aud"`
	}{plain: (*plain)(c)}
	err := json.Unmarshal(data, &read)
	c.Audience = string(read.Audience)
	return err
}

// audience is an aud of one resource.
type audience string

// UnmarshalJSON reads a string, or a list of one string.
func (a *audience) UnmarshalJSON(data []byte) error {
	var list []string
	if json.Unmarshal(data, (*string)(a)) == nil {
		return nil
	}
	if json.Unmarshal(data, &list) != nil || len(list) != 1 {
		return errors.New("aud is neither a string nor a list of one string")
	}
	*a = audience(list[0])
	return nil
}
