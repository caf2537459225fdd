package gateway

import (
	"encoding/json"
	"fmt"
)

// changing are the lists of which a server announces changes.
var changing = []string{"tools", "prompts", "resources"}

// learn remembers of which lists the server announces changes, from the result of initialize or server/discover.
func (rt *route) learn(data []byte) {
	var message struct {
		Result struct {
			Capabilities map[string]json.RawMessage `json:"capabilities"`
		} `json:"result"`
	}
	if json.Unmarshal(data, &message) != nil || message.Result.Capabilities == nil {
		return
	}
	var announced []string
	for _, list := range changing {
		var capability struct {
			ListChanged bool `json:"listChanged"`
		}
		if json.Unmarshal(message.Result.Capabilities[list], &capability) == nil && capability.ListChanged {
			announced = append(announced, list)
		}
	}
	rt.gateway.announced.Store(rt.Resource, announced)
}

// changes returns the notifications that tell the client of a stream that lists have changed, because the rules have.
// It gets those that it may expect: in its session, those that the server announces; on a subscription (MCP
// 2026-07-28), those that it asked for.
func (rt *route) changes(c *call) (messages []string) {
	if c.version < stateless {
		known, _ := rt.gateway.announced.Load(rt.Resource)
		announced, _ := known.([]string)
		for _, list := range announced {
			messages = append(messages, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/%s/list_changed"}`, list))
		}
		return messages
	}
	for _, m := range c.messages {
		for _, list := range changing {
			if asked, err := m.Param("notifications", list+"ListChanged"); err == nil && string(asked) == "true" {
				messages = append(messages, fmt.Sprintf(
					`{"jsonrpc":"2.0","method":"notifications/%s/list_changed","params":`+
						`{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, list, m.ID))
			}
		}
	}
	return messages
}
