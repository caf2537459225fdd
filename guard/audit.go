package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// LogToolCall records a tool call in Config.Logger, and with [Guard.RecordToolCall] for the audit log of the issuer:
// who called the tool, with which scopes, from where, and how the call ended; err is nil if it succeeded. It takes the
// caller from ctx, where [Guard.Protect] put it. Arguments and results are not recorded, because they are private. The
// record is named mcp_tool_access and has user_id, issuer, client_id, token_id, tool_name, scopes, success, error,
// ip_address and user_agent.
func (g *Guard) LogToolCall(ctx context.Context, tool string, err error) {
	c := CallerFromContext(ctx)
	if c.Token == nil {
		c.Token = &Token{}
	}
	level, attrs := slog.LevelInfo, []slog.Attr{
		slog.String("user_id", c.Token.Subject),
		slog.String("issuer", c.Token.Issuer),
		slog.String("client_id", c.Token.ClientID),
		slog.String("token_id", c.Token.ID),
		slog.String("tool_name", strings.ToValidUTF8(tool[:min(len(tool), maxToolName)], "")),
		slog.String("scopes", c.Token.Scopes.String()),
		slog.Bool("success", err == nil),
		slog.String("ip_address", c.Address),
		slog.String("user_agent", c.UserAgent),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
		if outcomeOf(tool, err).Outcome != "refused" { // which is how clients learn what to ask for
			level = slog.LevelWarn
		}
	}
	g.log.LogAttrs(ctx, level, "mcp_tool_access", attrs...)
	_ = g.RecordToolCall(ctx, outcomeOf(tool, err)) // logs its error
}

// outcomeOf returns the call of a tool that ended with err, or nil.
func outcomeOf(tool string, err error) ToolCall {
	var e *Error
	switch {
	case err == nil:
		return ToolCall{Tool: tool, Outcome: "allowed"}
	case errors.As(err, &e) && e.Status < http.StatusInternalServerError:
		return ToolCall{Tool: tool, Outcome: "refused", Reason: e.Description}
	}
	return ToolCall{Tool: tool, Outcome: "failed"} // the error may tell of arguments and results
}
