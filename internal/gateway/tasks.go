package gateway

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cardea-auth/cardea/guard"
)

// maxTasks is how many tasks are remembered at least. Older ones are forgotten, and closed.
const maxTasks = 50_000

// tasks remembers whose tasks are, because an id alone must not be enough to see or end one (MCP 2025-11-25, "Tasks").
type tasks struct {
	mu         sync.Mutex
	young, old map[string]string // owner by resource and id
}

func (ts *tasks) keep(key, owner string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.young) >= maxTasks {
		ts.young, ts.old = nil, ts.young
	}
	if ts.young == nil {
		ts.young = map[string]string{}
	}
	if _, taken := ts.owner(key); !taken { // the first is its owner
		ts.young[key] = owner
	}
}

// owner returns the owner of a task. ts.mu must be held.
func (ts *tasks) owner(key string) (owner string, found bool) {
	if owner, found = ts.young[key]; !found {
		owner, found = ts.old[key]
	}
	return owner, found
}

// ownsTask reports whether a task of the server was made by token's person with token's client.
func (rt *route) ownsTask(id string, token *guard.Token) bool {
	ts := &rt.gateway.tasks
	ts.mu.Lock()
	defer ts.mu.Unlock()
	owner, found := ts.owner(rt.Resource + "\x00" + id)
	return found && owner == rt.owner("task", token)
}

// mayMakeTask reports whether the answer to c may be a task: its client asked for one (MCP 2025-11-25), or takes one
// (the extension of MCP 2026-07-28).
func (c *call) mayMakeTask() bool {
	for _, m := range c.messages {
		if m.Method != "tools/call" {
			continue
		}
		asked, err := m.Param("task")
		takes, err2 := m.Param("_meta", "io.modelcontextprotocol/clientCapabilities",
			"extensions", "io.modelcontextprotocol/tasks")
		if err != nil || err2 != nil || asked != nil || takes != nil {
			return true
		}
	}
	return false
}

// learnTask remembers the task in an answer to c.
func (rt *route) learnTask(c *call, data []byte) {
	if !bytes.Contains(data, []byte("taskId")) {
		return
	}
	var message struct {
		Result struct {
			TaskID string `json:"taskId"`
			Task   struct {
				TaskID string `json:"taskId"`
			} `json:"task"`
		} `json:"result"`
	}
	if json.Unmarshal(data, &message) != nil {
		return
	}
	for _, id := range []string{message.Result.TaskID, message.Result.Task.TaskID} {
		if id != "" {
			rt.gateway.tasks.keep(rt.Resource+"\x00"+id, rt.owner("task", c.token))
		}
	}
}

// ownTasks returns the answer to tasks/list with the tasks of c's person and client alone, or a batch with such
// answers, and whether it can be read.
func (rt *route) ownTasks(c *call, data []byte) ([]byte, bool) {
	if isBatch(data) {
		return eachOf(data, func(one []byte) ([]byte, bool) { return rt.ownTasks(c, one) })
	}
	message, ok := objectOf(data)
	if !ok || hasAlmost(message, "result") {
		return nil, false
	}
	result, isResult := objectOf(find(message, "result"))
	if hasAlmost(result, "tasks") {
		return nil, false
	}
	var items []jsontext.Value
	if !isResult || find(result, "tasks") == nil {
		return data, true
	}
	if json.Unmarshal(find(result, "tasks"), &items) != nil {
		return nil, false
	}
	var own [][]byte
	for _, item := range items {
		task, isTask := objectOf(item)
		var id string
		if isTask && !hasAlmost(task, "taskId") && json.Unmarshal(find(task, "taskId"), &id) == nil &&
			rt.ownsTask(id, c.token) {
			own = append(own, item)
		}
	}
	list := append(append([]byte("["), bytes.Join(own, []byte(","))...), ']')
	return within(data,
		"result", func(r []byte) []byte { return within(r, "tasks", func([]byte) []byte { return list }) }), true
}
