package guardtest

import (
	"encoding/json"
	"net/http"
	"slices"
)

// ToolCall is a tool call that a guard reported, with the members that the issuer's audit log has.
type ToolCall struct {
	ID       string  `json:"id"`
	Time     string  `json:"time"`
	Action   string  `json:"action"`
	Outcome  string  `json:"outcome"`
	Tool     string  `json:"tool"`
	User     string  `json:"user"`
	ClientID string  `json:"client_id"`
	GrantID  string  `json:"grant_id"`
	TokenID  string  `json:"jti"`
	Duration float64 `json:"duration_ms"`
	Reason   string  `json:"reason"`
}

// ToolCalls returns the tool calls, and the tools that have changed, that guards have reported, each once.
func (i *Issuer) ToolCalls() []ToolCall {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.calls)
}

// events takes a report of every client that has the secret.
func (i *Issuer) events(w http.ResponseWriter, r *http.Request) {
	if _, proven := i.client(r); !proven {
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	var report struct {
		Resource string     `json:"resource"`
		Events   []ToolCall `json:"events"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&report); err != nil || len(report.Events) == 0 || len(report.Events) > 1000 {
		refuse(w, "invalid_request", "The body is not a report of 1 to 1,000 events.")
		return
	}
	accepted := make([]string, 0, len(report.Events))
	i.mu.Lock()
	for _, call := range report.Events {
		accepted = append(accepted, call.ID)
		if !i.known[call.ID] {
			i.known[call.ID] = true
			i.calls = append(i.calls, call)
		}
	}
	i.mu.Unlock()
	answer(w, http.StatusAccepted, map[string][]string{"accepted": accepted})
}
