package demo

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/gosdk"
	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// serverName is the name of the demo's MCP server.
const serverName = "Demo assistant"

// scopes are the scopes of the demo's MCP server. An agent that requests none gets only the harmless ones, so that the
// others show how an agent asks for more later.
var scopes = []oauth.ResourceScope{
	{Name: "mcp:tools:weather", Description: "Look up the weather forecast", Default: true, Risk: oauth.RiskRead},
	{Name: "mcp:tools:calendar:read", Description: "See what is in your calendar", Default: true, Risk: oauth.RiskRead},
	{Name: "mcp:tools:calendar:write", Description: "Put new events into your calendar", Risk: oauth.RiskChange},
	{Name: "mcp:tools:email:send", Description: "Send e-mail in your name", Risk: oauth.RiskAct},
}

// toolScopes are the scopes that each tool needs.
var toolScopes = guard.ToolScopes{
	"get_forecast": {"mcp:tools:weather"},
	"list_events":  {"mcp:tools:calendar:read"},
	"create_event": {"mcp:tools:calendar:write"},
	"send_email":   {"mcp:tools:email:send"},
}

// newTools returns the demo's MCP server, which uses the official SDK and a guard like any other server. The guard
// introspects each token, so that a revocation takes effect immediately. The server keeps no sessions, so agents can
// continue after it was restarted.
func newTools(issuer, resource, version string, own agent.Credentials, log *slog.Logger,
	mails http.Handler) (http.Handler, error) {
	served := oauth.Resource{Scopes: scopes}
	g, err := guard.New(guard.Config{
		Issuer:        issuer,
		Resource:      resource,
		Scopes:        served.ScopeNames(),
		DefaultScopes: served.DefaultScopes(),
		Name:          serverName,
		Introspection: &guard.Credentials{ClientID: own.ID, ClientSecret: own.Secret},
		Logger:        log,
	})
	if err != nil {
		return nil, err
	}
	server := newServer(version)
	server.AddReceivingMiddleware(gosdk.Identify, gosdk.LogToolCalls(g))
	mux := http.NewServeMux()
	mux.Handle("/.well-known/", guard.WellKnown(g))
	mux.Handle("GET /mail", mails)
	mux.Handle("/mcp", gosdk.Protect(g, overHTTP(server), g.RequireToolScopes(toolScopes)))
	return mux, nil
}

// newBareTools returns the demo's MCP server as one that knows nothing of authorization.
func newBareTools(version string, mails http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /mail", mails)
	mux.Handle("/mcp", overHTTP(newServer(version)))
	return mux
}

func overHTTP(server *mcp.Server) http.Handler {
	return mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true},
	)
}

func newServer(version string) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "cardea-demo", Title: serverName, Version: version}, nil)
	readOnly := &mcp.ToolAnnotations{ReadOnlyHint: true}
	mcp.AddTool(s,
		&mcp.Tool{Name: "get_forecast", Description: "The weather forecast of a city for the next days.",
			Annotations: readOnly}, getForecast)
	mcp.AddTool(s,
		&mcp.Tool{Name: "list_events", Description: "The events in the person's calendar on one day.",
			Annotations: readOnly}, listEvents)
	mcp.AddTool(s, &mcp.Tool{Name: "create_event", Description: "Put an event into the person's calendar."},
		createEvent)
	mcp.AddTool(s, &mcp.Tool{Name: "send_email", Description: "Send an e-mail in the person's name."}, sendEmail)
	return s
}

type forecastQuery struct {
	City string `json:"city" jsonschema:"name of the city"`
	Days int    `json:"days,omitempty" jsonschema:"how many days, 1 to 7; 3 if absent"`
}

type forecast struct {
	City string        `json:"city"`
	Days []forecastDay `json:"days"`
}

type forecastDay struct {
	Date      string `json:"date"`
	Condition string `json:"condition"`
	High      int    `json:"high_celsius"`
	Low       int    `json:"low_celsius"`
}

func getForecast(_ context.Context, _ *mcp.CallToolRequest, q forecastQuery) (*mcp.CallToolResult, forecast, error) {
	if q.City == "" {
		return nil, forecast{}, fmt.Errorf("city is missing")
	}
	if q.Days == 0 {
		q.Days = 3
	}
	f := forecast{City: q.City}
	for i := range min(max(q.Days, 1), 7) {
		date := time.Now().AddDate(0, 0, i).Format(time.DateOnly)
		n := madeUp(strings.ToLower(q.City) + date)
		high := 9 + n%17
		f.Days = append(f.Days, forecastDay{
			Date:      date,
			Condition: []string{"sunny", "partly cloudy", "cloudy", "light rain", "showers", "windy"}[n/17%6],
			High:      high,
			Low:       high - 4 - n/100%6,
		})
	}
	return nil, f, nil
}

type eventsQuery struct {
	Date string `json:"date,omitempty" jsonschema:"the day as YYYY-MM-DD; today if absent"`
}

type events struct {
	Date   string  `json:"date"`
	Events []event `json:"events"`
}

type event struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Start   string `json:"start"`
	Minutes int    `json:"minutes"`
}

func listEvents(_ context.Context, _ *mcp.CallToolRequest, q eventsQuery) (*mcp.CallToolResult, events, error) {
	if q.Date == "" {
		q.Date = time.Now().Format(time.DateOnly)
	}
	if _, err := time.Parse(time.DateOnly, q.Date); err != nil {
		return nil, events{}, fmt.Errorf("date must be written as YYYY-MM-DD")
	}
	n := madeUp(q.Date)
	return nil, events{Date: q.Date, Events: []event{
		{ID: eventID(q.Date, 1), Title: []string{"Stand-up", "Design review", "Team coffee"}[n%3],
			Start: q.Date + "T09:30", Minutes: 15},
		{ID: eventID(q.Date, 2), Title: []string{"Lunch with Ada", "Lunch with Grace", "Lunch with Alan"}[n/3%3],
			Start: q.Date + "T12:30", Minutes: 60},
		{ID: eventID(q.Date, 3), Title: []string{"Dentist", "Piano lesson", "Call with the bank"}[n/9%3],
			Start: q.Date + "T16:00", Minutes: 45},
	}}, nil
}

type newEvent struct {
	Title   string `json:"title" jsonschema:"what the event is called"`
	Start   string `json:"start" jsonschema:"when it begins, as YYYY-MM-DDTHH:MM"`
	Minutes int    `json:"minutes,omitempty" jsonschema:"how long it lasts; 30 if absent"`
}

func createEvent(_ context.Context, _ *mcp.CallToolRequest, e newEvent) (*mcp.CallToolResult, event, error) {
	switch _, err := time.Parse("2006-01-02T15:04", e.Start); {
	case e.Title == "":
		return nil, event{}, fmt.Errorf("title is missing")
	case err != nil:
		return nil, event{}, fmt.Errorf("start must be written as YYYY-MM-DDTHH:MM")
	case e.Minutes == 0:
		e.Minutes = 30
	}
	return nil, event{ID: eventID(e.Title+e.Start, 4), Title: e.Title, Start: e.Start, Minutes: e.Minutes}, nil
}

type email struct {
	To      string `json:"to" jsonschema:"address of the recipient"`
	Subject string `json:"subject" jsonschema:"subject line"`
	Body    string `json:"body" jsonschema:"plain text"`
}

type sentEmail struct {
	MessageID string `json:"message_id"`
	To        string `json:"to"`
	Subject   string `json:"subject"`
	Status    string `json:"status"`
}

func sendEmail(_ context.Context, _ *mcp.CallToolRequest, m email) (*mcp.CallToolResult, sentEmail, error) {
	if !strings.Contains(m.To, "@") {
		return nil, sentEmail{}, fmt.Errorf("to must be an e-mail address")
	}
	id := fmt.Sprintf("%08x@demo.invalid", madeUp(m.To+m.Subject+m.Body))
	return nil, sentEmail{MessageID: id, To: m.To, Subject: m.Subject,
		Status: "sent (this is a demo: nothing left your computer)"}, nil
}

// madeUp returns a number that looks random and is the same for the same text.
func madeUp(text string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails, hash.Hash
	return int(h.Sum32() >> 1)
}

func eventID(text string, n int) string {
	return fmt.Sprintf("event-%06x%d", madeUp(text)&0xffffff, n)
}
