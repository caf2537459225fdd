// Package python holds the example of an MCP server in Python, which the console shows with the values of a registered
// server.
package python

import _ "embed"

// Protect is cardea.py.
//
//go:embed cardea.py
var Protect string
