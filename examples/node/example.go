// Package node holds the example of an MCP server in Node, which the console shows with the values of a registered
// server.
package node

import _ "embed"

// Server is server.mjs.
//
//go:embed server.mjs
var Server string
