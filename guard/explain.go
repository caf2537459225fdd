package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4/json"
)

// Explanation says why a token is or is not accepted. It holds what the token says, so treat it as the token itself; but
// not the signature, so that nobody can use it as one.
type Explanation struct {
	Accepted bool
	Header   map[string]any // nil if it cannot be read
	Claims   map[string]any // nil if they cannot be read; not proven unless Accepted
	Checks   []Check        // in the order in which a request's token is checked
}

// Check is one thing that was looked at.
type Check struct {
	Name  string // header parameter, claim, "format", "signature" or "introspection"
	Fault string // what is wrong; empty if it is right
}

// Explain decodes a token and checks everything about it, going on where [Guard.Verify] would stop, so that all its
// faults show. It is for logs and command lines, never for letting somebody in.
func (g *Guard) Explain(ctx context.Context, raw string) Explanation {
	var e Explanation
	check := func(name, fault string) { e.Checks = append(e.Checks, Check{name, fault}) }

	c, err := parse(raw)
	if err != nil {
		check("format", "The token is not a JWT of this issuer: "+err.Error()+".")
		if c == nil {
			return e
		}
	} else {
		check("format", "")
	}
	e.Header, e.Claims = members(c.rawHeader), members(c.payload)
	if err != nil {
		return e
	}
	for _, r := range headerRules {
		check(r.name, r.fault(g, c))
	}
	_, err = g.checkSignature(ctx, c)
	check("signature", describeFault(err))
	for _, r := range claimRules {
		check(r.name, r.fault(g, c))
	}
	if g.credentials != nil {
		_, err := g.introspect(ctx, raw, &Token{})
		check("introspection", describeFault(err))
	}
	e.Accepted = true
	for _, c := range e.Checks {
		e.Accepted = e.Accepted && c.Fault == ""
	}
	return e
}

func members(data []byte) map[string]any {
	var object map[string]any
	if err := json.Unmarshal(data, &object); err != nil {
		return nil
	}
	return object
}

func describeFault(err error) string {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e) && e.cause != nil:
		return e.Description + " (" + e.cause.Error() + ")"
	case errors.As(err, &e):
		return e.Description
	}
	return err.Error()
}

// String writes the explanation for people, a line for each check.
func (e Explanation) String() string {
	var b strings.Builder
	for _, part := range []struct {
		name    string
		members map[string]any
	}{{"header", e.Header}, {"claims", e.Claims}} {
		if part.members == nil {
			continue
		}
		text, err := json.MarshalIndent(part.members, "", "  ")
		if err == nil {
			fmt.Fprintf(&b, "%s %s\n", part.name, text)
		}
	}
	for _, c := range e.Checks {
		if c.Fault == "" {
			fmt.Fprintf(&b, "ok    %s\n", c.Name)
		} else {
			fmt.Fprintf(&b, "FAULT %s: %s\n", c.Name, c.Fault)
		}
	}
	if e.Accepted {
		b.WriteString("accepted\n")
	} else {
		b.WriteString("refused\n")
	}
	return b.String()
}

// ExplainScopes says for each required scope on a line of its own which granted one covers it, or that it is missing.
func ExplainScopes(granted scope.Set, required ...string) string {
	var b strings.Builder
	for _, name := range required {
		by := "missing"
		for _, member := range granted {
			if (scope.Set{member}).Covers(name) {
				by = "covered by " + member
				break
			}
		}
		fmt.Fprintf(&b, "%s: %s\n", name, by)
	}
	return b.String()
}
