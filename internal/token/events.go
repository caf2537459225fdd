package token

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	strict "github.com/go-json-experiment/json"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Bounds of a report of tool calls.
const (
	maxReport = 1 << 20 // bytes
	maxEvents = 1000
	maxField  = 512 // bytes of a field, but of client_id and tool
	maxTool   = 256
	maxWho    = 2048 // bytes of client_id, which may be a URL
	maxLasted = 1000 * time.Hour
)

// Report is what a guard or a gateway sends: the tool calls that it let through or refused.
type Report struct {
	// Resource is the identifier of the resource at which the tools were called. It may be left out by a reporter whose
	// credentials are of one resource.
	Resource string     `json:"resource"`
	Events   []ToolCall `json:"events"`
}

// ToolCall is one call. ID and Time are the reporter's; ID identifies the event for its resource.
type ToolCall struct {
	ID       string  `json:"id"`
	Time     string  `json:"time"`      // RFC 3339
	Action   string  `json:"action"`    // "tool.call"; "tool.drift" if the tool is not what was reviewed, and is closed
	Outcome  string  `json:"outcome"`   // "allowed", "refused", or "failed": it was allowed, and the tool failed
	Tool     string  `json:"tool"`      // its name
	User     string  `json:"user"`      // sub of the token
	ClientID string  `json:"client_id"` // of the token
	GrantID  string  `json:"grant_id"`  // "" for a client's own token
	TokenID  string  `json:"jti"`       // of the token
	Duration float64 `json:"duration_ms"`
	Reason   string  `json:"reason"` // why it was refused, or failed
}

// Received is the answer to a report. An event is accepted if it was recorded now or before.
type Received struct {
	Accepted []string `json:"accepted"` // ids
}

// Events answers POST /oauth2/events: it records the tool calls that a guard or a gateway reports in the audit log,
// each once, however often it is sent. The reporter authenticates with the credentials of its resource server, and all
// calls are of that resource, or of the one that the report names if the credentials are of several. What an event says
// of a person and a client is believed only so far as the grant that it names is one of that resource. A report with a
// fault is refused as a whole.
func (e *Endpoint) Events(r *http.Request) (web.Reply, error) {
	c, method, err := e.Clients.Authenticate(r, url.Values{})
	switch {
	case err != nil:
		return web.Reply{}, e.Strangers.Refuse(r, audit.ToolReport(""), err)
	case method == oauth.MethodNone || len(c.ResourceServers) == 0:
		err = oauth.Refuse(oauth.UnauthorizedClient, "only a resource server reports tool calls: use credentials that "+
			"cardea client create --resource-server made")
		return web.Reply{}, e.Strangers.Refuse(r, audit.ToolReport(c.ID), err)
	}
	report, err := readReport(r)
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.ToolReport(c.ID), err)
	}
	at, err := report.at(c)
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.ToolReport(c.ID), err)
	}
	ids := make([]string, len(report.Events))
	for i, call := range report.Events {
		ids[i] = call.ID
	}
	err = e.DB.Update(r.Context(), func(tx *store.Tx) error {
		resource, err := tx.Resource(at)
		if errors.Is(err, store.ErrNotFound) {
			return tx.Conclude(audit.ToolReport(c.ID), oauth.Refuse(oauth.InvalidTarget,
				"the resource %s of these credentials is no longer registered here", at))
		}
		if err != nil {
			return err
		}
		fresh, err := tx.Receive(resource.Identifier, ids)
		if err != nil {
			return err
		}
		grants := map[string]*oauth.Grant{}
		for _, call := range report.Events {
			i := slices.Index(fresh, call.ID)
			if i < 0 {
				continue
			}
			fresh = slices.Delete(fresh, i, i+1)
			grant, known := grants[call.GrantID]
			if !known && call.GrantID != "" {
				grant, err = tx.Grant(call.GrantID)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				grants[call.GrantID] = grant
			}
			if err := tx.Record(call.event(c, resource, grant)); err != nil {
				return err
			}
		}
		return nil
	})
	return web.Reply{Status: http.StatusAccepted, Body: Received{ids}, Quiet: true}, err
}

// at returns the identifier of the resource whose calls reporter reports.
func (report *Report) at(reporter *oauth.Client) (string, error) {
	own := reporter.ResourceServers
	switch {
	case report.Resource == "" && len(own) == 1:
		return own[0], nil
	case report.Resource == "":
		return "", oauth.Refuse(oauth.InvalidRequest, "these credentials are of several resources; say in resource at "+
			"which the tools were called")
	case !slices.Contains(own, report.Resource):
		// Not 400, upon which a guard gives the events up: an operator can add the resource to the credentials.
		return "", oauth.RefuseStatus(http.StatusForbidden, oauth.InvalidTarget,
			"these credentials are not of the resource of this report; add it with cardea client update")
	}
	return report.Resource, nil
}

// event returns the event to record for a call at a resource, with the grant that it names, or nil.
func (call ToolCall) event(reporter *oauth.Client, r *oauth.Resource, g *oauth.Grant) audit.Event {
	if call.Action == "tool.drift" {
		return audit.ToolDrift(reporter.ID, r.Identifier, call.Tool).With("event", call.ID).With("time", call.Time).
			With("difference", call.Reason).Fail()
	}
	event := audit.ToolCall(reporter.ID, r.Identifier, call.Tool)
	switch {
	case g != nil && g.ResourceID == r.ID:
		event.ClientID, event.UserID, event.GrantID = g.ClientID, g.UserID, g.ID
	case call.GrantID == "" && call.User == call.ClientID:
		event.ClientID = call.ClientID
	default: // a grant that is not known any more, or of another resource: said, and not believed
		event = event.With("claimed_client", call.ClientID).With("claimed_user", call.User).
			With("claimed_grant", call.GrantID)
	}
	event = event.With("event", call.ID).With("time", call.Time).With("jti", call.TokenID).
		With("duration_ms", strconv.FormatFloat(call.Duration, 'f', -1, 64))
	switch call.Outcome {
	case "refused":
		event.Outcome, event.Reason, event.Description = audit.Refused, "access_denied", call.Reason
	case "failed":
		event = event.Fail().With("error", call.Reason)
	default:
		event = event.Allow()
	}
	return event
}

// readReport reads the report in the body of r.
func readReport(r *http.Request) (*Report, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, oauth.RefuseStatus(http.StatusUnsupportedMediaType, oauth.InvalidRequest,
			"send the events as application/json")
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxReport+1))
	switch {
	case err != nil:
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body ended early")
	case len(body) > maxReport:
		return nil, oauth.RefuseStatus(http.StatusRequestEntityTooLarge, oauth.InvalidRequest,
			"the body is longer than %d bytes; send fewer events at a time", maxReport)
	}
	report := new(Report)
	if err := strict.Unmarshal(body, report, strict.RejectUnknownMembers(true)); err != nil {
		return nil, oauth.Refuse(oauth.InvalidRequest, "the body is not a report of events: %s", faultOf(err))
	}
	if len(report.Events) == 0 || len(report.Events) > maxEvents {
		return nil, oauth.Refuse(oauth.InvalidRequest, "events has %d events; send 1 to %d", len(report.Events),
			maxEvents)
	}
	for i := range report.Events {
		if fault := report.Events[i].fault(); fault != "" {
			return nil, oauth.Refuse(oauth.InvalidRequest, "events[%d].%s", i, fault)
		}
	}
	return report, nil
}

// faultOf returns what is wrong with the JSON of a report, without repeating it.
func faultOf(err error) string {
	var semantic *strict.SemanticError
	if errors.As(err, &semantic) {
		return fmt.Sprintf("the member at %.100q is unknown or has another type", string(semantic.JSONPointer))
	}
	return "it is not one JSON object in UTF-8 in which no member is there twice"
}

var eventID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// secretLike matches what may be a secret of this server: a token, a code, a client secret or a JWT.
var secretLike = regexp.MustCompile(`cardea_[a-z]{2}_[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)

// fault returns what is wrong with a call, or "". It removes from its texts what looks like a secret.
func (call *ToolCall) fault() string {
	_, err := time.Parse(time.RFC3339Nano, call.Time)
	switch {
	case !eventID.MatchString(call.ID):
		return "id must have 1 to 64 letters, digits, hyphens, underscores, dots and colons"
	case err != nil || len(call.Time) > 40:
		return "time is not a time as in RFC 3339"
	case call.Action != "tool.call" && call.Action != "tool.drift":
		return `action is not "tool.call" or "tool.drift"`
	case !slices.Contains([]string{"allowed", "refused", "failed"}, call.Outcome):
		return `outcome is not "allowed", "refused" or "failed"`
	case call.Tool == "":
		return "tool is missing"
	case !(call.Duration >= 0 && call.Duration <= float64(maxLasted/time.Millisecond)):
		return "duration_ms is not a number of milliseconds"
	}
	for _, field := range []struct {
		name string
		text *string
		most int
	}{{"tool", &call.Tool, maxTool}, {"user", &call.User, maxField}, {"client_id", &call.ClientID, maxWho},
		{"grant_id", &call.GrantID, maxField}, {"jti", &call.TokenID, maxField}, {"reason", &call.Reason, maxField}} {
		switch {
		case len(*field.text) > field.most:
			return fmt.Sprintf("%s is longer than %d bytes", field.name, field.most)
		case strings.ContainsFunc(*field.text, unicode.IsControl):
			return field.name + " has a control character"
		}
		*field.text = secretLike.ReplaceAllString(*field.text, "[removed]")
	}
	return ""
}
