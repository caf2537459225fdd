// Package gosdk plugs a guard into the official Go SDK for MCP, github.com/modelcontextprotocol/go-sdk.
//
//	server := mcp.NewServer(…)
//	server.AddReceivingMiddleware(gosdk.Identify, gosdk.LogToolCalls(g))
//	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
//	mux.Handle("/mcp", gosdk.Protect(g, handler, g.RequireToolScopes(guard.ToolScopes{
//		"get_forecast": {"mcp:tools:weather"},
//	})))
//	mux.Handle("/.well-known/", guard.WellKnown(g))
//
// The SDK's own auth.RequireBearerToken does not check the audience, answers preflights with 401, and sends challenges
// without an error, so clients never step up. [Protect] does all this, and then lets the SDK set its own context:
// sessions are bound to their user, and tools find auth.TokenInfo where they expect it.
package gosdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/cardea-auth/cardea/guard"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

const callerKey = "cardea_caller" // in auth.TokenInfo.Extra

// Protect is [guard.Guard.Protect] for an HTTP handler of the SDK. The checks run between the two, the first outermost;
// they are other methods of g, such as RequireToolScopes, RequireScope and LimitRate.
//
// The context of a tool belongs to its session, which began with another request and perhaps another token, so
// [guard.FromContext] returns nil there unless [Identify] is used.
func Protect(g *guard.Guard, server http.Handler, checks ...func(http.Handler) http.Handler) http.Handler {
	handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.ServeHTTP(w, r.WithContext(guard.NewContext(r.Context(), guard.Caller{})))
	}))
	for n := range checks {
		handler = checks[len(checks)-1-n](handler)
	}
	verified := func(ctx context.Context, _ string, _ *http.Request) (*auth.TokenInfo, error) {
		return tokenInfo(guard.CallerFromContext(ctx))
	}
	return g.Protect(auth.RequireBearerToken(verified, nil)(handler))
}

// Verifier returns g in the form that the SDK's auth.RequireBearerToken takes, for servers that use nothing else of
// this package. Its error is auth.ErrInvalidToken if the token is not valid; any other error means that the issuer
// could not be asked.
func Verifier(g *guard.Guard) auth.TokenVerifier {
	return func(ctx context.Context, raw string, r *http.Request) (*auth.TokenInfo, error) {
		token, err := g.Verify(ctx, raw)
		var refusal *guard.Error
		switch {
		case errors.As(err, &refusal) && refusal.Status == http.StatusUnauthorized:
			return nil, fmt.Errorf("%w: %s", auth.ErrInvalidToken, refusal.Description)
		case err != nil:
			return nil, err
		}
		return tokenInfo(guard.NewCaller(r, token))
	}
}

// tokenInfo returns what the SDK needs of a verified token. UserID is iss and sub together, so that a session is bound
// to one person of one issuer; Extra has all claims.
func tokenInfo(c guard.Caller) (*auth.TokenInfo, error) {
	if c.Token == nil {
		return nil, auth.ErrInvalidToken
	}
	extra := map[string]any{}
	if err := c.Token.Claims(&extra); err != nil {
		return nil, fmt.Errorf("gosdk: %w", err)
	}
	extra[callerKey] = c
	return &auth.TokenInfo{
		Scopes:     c.Token.Scopes,
		Expiration: c.Token.Expiry,
		UserID:     c.Token.Principal(),
		Extra:      extra,
	}, nil
}

// Identify makes [guard.FromContext], [guard.CallerFromContext] and g.CheckScope work in tools and other handlers of an
// mcp.Server: the context of every MCP request carries the token of the HTTP request that brought it. Add it with
// AddReceivingMiddleware.
func Identify(next mcp.MethodHandler) mcp.MethodHandler {
	return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
		var caller guard.Caller
		if extra := req.GetExtra(); extra != nil && extra.TokenInfo != nil {
			caller, _ = extra.TokenInfo.Extra[callerKey].(guard.Caller)
		}
		return next(guard.NewContext(ctx, caller), method, req)
	}
}

// errTool takes the place of a tool's own error in the log, because that is meant for the model and may hold anything.
var errTool = errors.New("the tool answered with an error")

// LogToolCalls records every tool call with [guard.Guard.LogToolCall], including failed ones. Add it with
// AddReceivingMiddleware, after [Identify].
func LogToolCalls(g *guard.Guard) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			result, err := next(ctx, method, req)
			if call, ok := req.(*mcp.CallToolRequest); ok {
				failure := err
				if answer, ok := result.(*mcp.CallToolResult); ok && answer != nil && answer.IsError {
					failure = errTool
				}
				g.LogToolCall(ctx, call.Params.Name, failure)
			}
			return result, err
		}
	}
}
