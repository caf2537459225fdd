package audit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// maxMember is the size of the largest member of Before and After in bytes.
const maxMember = 2048

// unchanging are the members that every change changes, or that hold a secret in the answer to a change.
var unchanging = []string{"updated_at", "client_secret", "token", "password", "link"}

// Changed returns e with Before and After: of the JSON objects that before and after marshal to, the members that
// differ. nil stands for a record that does not exist. A member of more than 2,048 bytes is replaced by its size, as a
// string. Pass the views that operators see, because the audit log must not hold secrets; members that hold one in the
// answer to a change are left out.
func (e Event) Changed(before, after any) Event {
	was, is := members(before), members(after)
	for name, value := range was {
		if bytes.Equal(value, is[name]) {
			delete(was, name)
			delete(is, name)
		}
	}
	e.Before, e.After = packed(was), packed(is)
	return e
}

// members returns the members of the JSON object that v marshals to.
func members(v any) map[string]json.RawMessage {
	var found map[string]json.RawMessage
	text, err := json.Marshal(v)
	if err != nil || json.Unmarshal(text, &found) != nil {
		return nil // not a view: there is nothing to compare
	}
	for name, value := range found {
		if slices.Contains(unchanging, name) {
			delete(found, name)
		} else if len(value) > maxMember {
			found[name] = json.RawMessage(`"(` + strconv.Itoa(len(value)) + ` bytes)"`)
		}
	}
	return found
}

// packed returns the object with the given members, or nil if there are none.
func packed(members map[string]json.RawMessage) json.RawMessage {
	if len(members) == 0 {
		return nil
	}
	text, err := json.Marshal(members)
	if err != nil {
		return nil // cannot happen: they come from a JSON text
	}
	return text
}

// ChangesJSON returns a JSON object with the members before and after, or "" if e has neither.
func (e Event) ChangesJSON() string {
	if e.Before == nil && e.After == nil {
		return ""
	}
	text, err := json.Marshal(struct {
		Before json.RawMessage `json:"before,omitempty"`
		After  json.RawMessage `json:"after,omitempty"`
	}{e.Before, e.After})
	if err != nil {
		return "" // cannot happen: both are JSON
	}
	return string(text)
}
