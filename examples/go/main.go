// Command go is an MCP server behind Cardea: the official SDK, and guard in front of it.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/scope"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

func protected(issuer, resource string) (http.Handler, error) {
	g, err := guard.New(guard.Config{
		Issuer:        issuer,   // https://auth.example.com
		Resource:      resource, // https://mcp.example.com/mcp, as it is registered there
		Scopes:        scope.Of("mcp:tools:weather", "mcp:tools:email:send"),
		DefaultScopes: scope.Of("mcp:tools:weather"),
	})
	if err != nil {
		return nil, err
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "weather", Version: "1.0.0"}, nil)
	server.AddReceivingMiddleware(gosdk.Identify, gosdk.LogToolCalls(g))
	mcp.AddTool(server, &mcp.Tool{Name: "get_forecast", Description: "Tomorrow's weather"}, getForecast)
	mcp.AddTool(server, &mcp.Tool{Name: "send_email", Description: "Send an e-mail"}, sendEmail)
	tools := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)

	mux := http.NewServeMux()
	mux.Handle("/.well-known/", guard.WellKnown(g))
	mux.Handle("/mcp", gosdk.Protect(g, tools, g.RequireToolScopes(guard.ToolScopes{
		"get_forecast": {"mcp:tools:weather"},
		"send_email":   {"mcp:tools:email:send"},
	})))
	return mux, nil
}

type question struct {
	City string `json:"city" jsonschema:"name of the city"`
}

type message struct {
	To   string `json:"to" jsonschema:"e-mail address"`
	Text string `json:"text"`
}

type answer struct {
	Text string `json:"text"`
}

func getForecast(_ context.Context, _ *mcp.CallToolRequest, q question) (*mcp.CallToolResult, answer, error) {
	return nil, answer{"Tomorrow in " + q.City + ": sunny."}, nil
}

func sendEmail(ctx context.Context, _ *mcp.CallToolRequest, m message) (*mcp.CallToolResult, answer, error) {
	who := guard.FromContext(ctx).Subject // the person who allowed it
	return nil, answer{"Sent to " + m.To + " for " + who + "."}, nil
}

func main() {
	handler, err := protected(os.Getenv("ISSUER"), os.Getenv("RESOURCE"))
	if err != nil {
		log.Fatal(err)
	}
	s := &http.Server{Addr: os.Getenv("LISTEN"), Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(s.ListenAndServe())
}
