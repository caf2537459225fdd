// Package gateway is authorization in front of MCP servers that know nothing of it. It checks the access token of every
// request with package guard, judges each JSON-RPC message by the rules of the server it is for, and passes on exactly
// the bytes that it judged.
//
//	config, err := gateway.Load("cardea-gateway.yaml")
//	…
//	g, err := gateway.New(config, gateway.Options{})
//	…
//	err = g.Serve(ctx, listener)
//
// What no rule names is closed, unless the server's default says otherwise. The client's token goes no further than the
// gateway.
package gateway
