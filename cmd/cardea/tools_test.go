package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// mcpStdio is an MCP server on standard input and output, whose tools are in the file that it is started with.
func mcpStdio() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		result := `{}`
		switch m.Method {
		case "initialize":
			result = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},` +
				`"serverInfo":{"name":"Files","version":"1"}}`
		case "tools/list":
			tools, err := os.ReadFile(os.Args[1])
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			var list json.RawMessage // on one line
			if list, err = json.Marshal(json.RawMessage(tools)); err != nil {
				os.Exit(1)
			}
			result = `{"tools":` + string(list) + `}`
		}
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", m.ID, result)
	}
}
