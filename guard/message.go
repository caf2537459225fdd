package guard

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"unicode"
)

// methods has the methods of all requests that clients send, in all revisions of MCP, with the member of params that
// Mcp-Name repeats, if there is one (MCP 2026-07-28, Streamable HTTP, "Standard Request Headers").
var methods = map[string]string{
	"initialize":               "",
	"server/discover":          "",
	"ping":                     "",
	"tools/list":               "",
	callTool:                   "name",
	"prompts/list":             "",
	"prompts/get":              "name",
	"resources/list":           "",
	"resources/templates/list": "",
	"resources/read":           "uri",
	"resources/subscribe":      "",
	"resources/unsubscribe":    "",
	"subscriptions/listen":     "",
	"completion/complete":      "",
	"logging/setLevel":         "",
	"tasks/list":               "",
	"tasks/get":                "taskId",
	"tasks/update":             "taskId",
	"tasks/result":             "taskId",
	"tasks/cancel":             "taskId",
}

const (
	callTool = "tools/call"

	// notifications is the prefix of the methods of all notifications of MCP, and of no other.
	notifications = "notifications/"

	// metaVersion is the member of params._meta that names the revision of MCP.
	metaVersion = "io.modelcontextprotocol/protocolVersion"

	// Revisions of MCP: the first without batches, and the first with Mcp-Method and Mcp-Name.
	withoutBatches = "2025-06-18"
	withHeaders    = "2026-07-28"
)

// maxBatch is how many messages a batch may have.
const maxBatch = 100

// message is the part of a JSON-RPC message that decides whether it gets through.
type message struct {
	id      []byte // JSON; nil if the message has none
	method  string // empty for a response
	name    string // the member of params that Mcp-Name repeats
	version string // the member metaVersion of params._meta; empty if there is none
	params  []byte // JSON; nil if the message has none
}

// readMessages returns the JSON-RPC message in body, or the messages of a batch. The error says why body is neither, or
// how two readers could read it differently; it contains nothing of body.
func readMessages(body []byte) (messages []message, batch bool, err error) {
	if err := checkJSON(body); err != nil {
		return nil, false, err
	}
	values, batch := elements(body)
	switch {
	case !batch:
		values = [][]byte{body}
	case len(values) == 0:
		return nil, true, errors.New("it is an empty batch")
	case len(values) > maxBatch:
		return nil, true, errors.New("it is a batch of more than 100 messages")
	}
	for _, value := range values {
		m, err := readMessage(value)
		if err != nil {
			return nil, batch, err
		}
		messages = append(messages, m)
	}
	return messages, batch, nil
}

// readMessage returns the message in value, which has passed checkJSON. A member that is almost one of those that
// decide is an error, because a lenient reader may take it for one of them.
func readMessage(value []byte) (m message, err error) {
	var protocol, method, params []byte
	answers := 0
	err = eachMember(value, func(name string, value []byte) error {
		switch name {
		case "jsonrpc":
			protocol = value
		case "id":
			m.id = value
		case "method":
			method = value
		case "params":
			params = value
		case "result", "error":
			answers++
		default:
			return errors.New("it has a member that JSON-RPC does not know")
		}
		return nil
	})
	if err != nil {
		return m, err
	}
	if s, _ := text(protocol); protocol != nil && s != "2.0" {
		return m, errors.New("jsonrpc is not 2.0")
	}
	switch {
	case m.id == nil || m.id[0] == '"' || m.id[0] == '-' || '0' <= m.id[0] && m.id[0] <= '9':
	case m.id[0] == 'n' && method == nil: // the answer to a request that could not be read
	default:
		return m, errors.New("id is not a string or a number")
	}
	if method == nil {
		if answers != 1 || m.id == nil || params != nil {
			return m, errors.New("it is not a request, a notification or a response")
		}
		return m, nil
	}
	var ok bool
	m.method, ok = text(method)
	switch {
	case !ok || m.method == "":
		return m, errors.New("method is not a string, or is empty")
	case answers > 0:
		return m, errors.New("it is a request and a response at once")
	}
	m.params = params
	return m, m.readParams(params)
}

// readParams reads the members of params that decide. Params has passed checkJSON, or is nil.
func (m *message) readParams(params []byte) error {
	var name, meta []byte
	nameMember := methods[m.method]
	if params != nil && params[0] != 'n' {
		err := eachMember(params, func(member string, value []byte) error {
			switch {
			case member == "_meta":
				meta = value
			case nameMember == "" || member == "arguments":
			case member == nameMember:
				name = value
			case almost(member, nameMember), almost(member, "arguments"), almost(member, "_meta"):
				return errors.New("a member of params is almost one that decides")
			}
			return nil
		})
		if errors.Is(err, errNotObject) {
			return errors.New("params is not an object")
		} else if err != nil {
			return err
		}
	}
	if nameMember != "" {
		var ok bool
		if m.name, ok = text(name); !ok {
			return errors.New("params." + nameMember + " of " + m.method + " is not a string")
		}
	}
	if meta == nil || meta[0] == 'n' {
		return nil
	}
	err := eachMember(meta, func(member string, value []byte) error {
		ok := true
		switch {
		case member == metaVersion:
			m.version, ok = text(value)
		case almost(member, metaVersion):
			ok = false
		}
		if !ok {
			return errors.New("params._meta." + metaVersion + " is not a string, or a member's name is almost that")
		}
		return nil
	})
	if errors.Is(err, errNotObject) {
		return errors.New("params._meta is not an object")
	}
	return err
}

// almost reports whether a lenient reader could take member for known, although they differ: in the case of letters, in
// letters that fold to others, as U+017F does to s, or in spaces around the name.
func almost(member, known string) bool {
	return member != known && strings.EqualFold(strings.TrimSpace(member), known)
}

// almostKnown reports whether method is like one of MCP's, but for the case of letters and for what is not a letter.
func almostKnown(method string) bool {
	plain := letters(method)
	for known := range methods {
		if method != known && plain == letters(known) {
			return true
		}
	}
	return false
}

// letters returns the letters of s that fold to a letter from a to z, as that letter.
func letters(s string) string {
	return strings.Map(func(c rune) rune {
		if c = unicode.ToLower(unicode.ToUpper(c)); 'a' <= c && c <= 'z' {
			return c
		}
		return -1
	}, s)
}

// isNotification reports whether method is the method of a notification. Even a lenient reader does not take it for a
// tools/call.
func isNotification(method string) bool {
	rest, ok := strings.CutPrefix(method, notifications)
	return ok && !strings.ContainsFunc(rest, func(c rune) bool {
		return c > unicode.MaxASCII || !unicode.IsLetter(c) && !strings.ContainsRune("0123456789/_-.", c)
	})
}

// checkHeaders returns an error if the headers that repeat parts of m do not agree with it (MCP 2026-07-28, Streamable
// HTTP, "Server Validation"). Programs between the client and the server read these headers instead of the message, so
// they are compared in every revision of MCP if they are there. From 2026-07-28 on, a request must have them, unless
// it came over the older transport, which does not know them.
func checkHeaders(h http.Header, m message, older bool) error {
	version, err := oneValue(h, "MCP-Protocol-Version")
	switch {
	case err != nil:
		return err
	case version == "":
		version = m.version
	case m.version != "" && m.version != version:
		return errors.New("MCP-Protocol-Version and the body name different revisions")
	}
	required := !older && version >= withHeaders && m.id != nil && m.method != ""
	if err := checkHeader(h, "Mcp-Method", m.method, required); err != nil {
		return err
	}
	member, ofMCP := methods[m.method]
	if !ofMCP { // an extension may give Mcp-Name its own meaning
		return nil
	}
	required = required && (member == "name" || member == "uri") // tasks are an extension
	return checkHeader(h, "Mcp-Name", m.name, required)
}

func checkHeader(h http.Header, name, value string, required bool) error {
	sent, err := oneValue(h, name)
	switch {
	case err != nil:
		return err
	case sent == "" && !required:
		return nil
	case sent == "":
		return errors.New(name + " is missing")
	case decodeHeader(sent) != value:
		return errors.New(name + " does not agree with the body")
	}
	return nil
}

// oneValue returns the value of a header, or an error if there are several.
func oneValue(h http.Header, name string) (string, error) {
	values := h.Values(name)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", errors.New("there is more than one " + name + " header")
}

// decodeHeader returns the value in a header, which is in base64 if it is not ASCII (MCP 2026-07-28, Streamable HTTP,
// "Value Encoding").
func decodeHeader(s string) string {
	if wrapped, ok := strings.CutPrefix(s, "=?base64?"); ok {
		if wrapped, ok = strings.CutSuffix(wrapped, "?="); ok {
			if decoded, err := base64.StdEncoding.DecodeString(wrapped); err == nil {
				return string(decoded)
			}
		}
	}
	return s
}
