package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4/json"
)

// Explanation says why a token is accepted or refused. It holds the contents of the token, which may be private, but
// not its signature, so it cannot be used in place of the token.
type Explanation struct {
	Accepted bool
	Header   map[string]any // nil if it cannot be read
	Claims   map[string]any // nil if they cannot be read; unverified unless Accepted
	Checks   []Check        // in the order in which [Guard.Verify] makes them
}

// Check is one check of a token.
type Check struct {
	Name  string // header parameter, claim, "format", "signature", "status list" or "introspection"
	Fault string // what is wrong; empty if it is right
}

// Explain decodes a token and makes every check of [Guard.Verify], going on where that would stop, so that the result
// has all faults. It is for logs and command lines, not for letting requests through.
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
	if place, _ := g.statuses.reference(c.claims.Status); err == nil && place.uri != "" && g.credentials == nil {
		check("status list", describeFault(g.statuses.check(ctx, g.statuses.list(place.uri), place.index, g.now())))
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

// String returns the explanation as text for people, with a line for each check.
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

// ExplainScopes returns a line for each required scope that says which granted scope covers it, or that it is missing.
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
