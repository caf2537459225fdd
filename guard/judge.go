package guard

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// Message is the part of a JSON-RPC message that decides whether it gets through: a request, a notification, or, if it
// has no Method, a response.
type Message struct {
	ID      []byte // JSON; nil if the message has none
	Method  string // empty for a response
	Name    string // the member of params that Mcp-Name repeats: name, uri or taskId; empty for other methods
	Version string // revision of MCP that the headers name, or else the message; empty if neither does
	Batch   bool   // whether the message is a member of a batch

	params []byte
}

// IsNotification reports whether m is a notification of MCP, in any revision.
func (m Message) IsNotification() bool { return m.ID == nil && isNotification(m.Method) }

// IsKnown reports whether m has the method of a request that a client sends in a revision of MCP.
func (m Message) IsKnown() bool {
	_, known := methods[m.Method]
	return known
}

// Param returns the JSON value below params that path names, member by member, or nil if there is none. The error says
// that a member beside it has almost that name, so that a lenient reader could take it for the one that is returned, or
// that a value on the path is not an object.
func (m Message) Param(path ...string) ([]byte, error) {
	value := m.params
	for i, name := range path {
		if value == nil || string(value) == "null" {
			return nil, nil
		}
		var found []byte
		err := eachMember(value, func(member string, value []byte) error {
			switch {
			case member == name:
				found = value
			case almost(member, name):
				return fmt.Errorf("a member is almost %s; write it so", name)
			}
			return nil
		})
		if errors.Is(err, errNotObject) {
			return nil, fmt.Errorf("what has the member %s is not an object", path[i])
		} else if err != nil {
			return nil, err
		}
		value = found
	}
	return value, nil
}

// Text is [Message.Param] for a string. It returns "" if there is none; the error also says that the value is not a
// string.
func (m Message) Text(path ...string) (string, error) {
	value, err := m.Param(path...)
	if err != nil || value == nil {
		return "", err
	}
	s, ok := text(value)
	if !ok {
		return "", fmt.Errorf("%s is not a string", path[len(path)-1])
	}
	return s, nil
}

// Reading says how [Guard.Messages] reads a body.
type Reading struct {
	Limit int64 // bytes that the body may have
	Older bool  // whether it came over HTTP with SSE (MCP 2024-11-05), where no headers repeat parts of a message
}

// Messages reads the JSON-RPC messages in the body of r for a handler that judges them by rules of its own. It returns
// them with the request that the handler passes on: one with exactly the bytes that were read. It refuses everything
// that two programs could read differently, as [Guard.RequireToolScopes] does; a GET or DELETE has no messages. The
// error is an [*Error] for [Guard.WriteError].
//
// Messages is for handlers inside [Guard.Protect]; outside it every request is refused.
func (g *Guard) Messages(w http.ResponseWriter, r *http.Request, how Reading) (*http.Request, []Message, error) {
	limit := how.Limit
	if err := g.CheckScope(r.Context()); err != nil {
		return nil, nil, err
	}
	if err := checkForm(r); err != nil {
		return nil, nil, err
	}
	if r.ContentLength > limit {
		return nil, nil, tooLong(limit)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var long *http.MaxBytesError
	var messages []Message
	switch {
	case errors.As(err, &long):
		return nil, nil, tooLong(limit)
	case err != nil:
		return nil, nil, invalidRequest("The body could not be read.")
	case r.Method == http.MethodPost:
		messages, err = checkBody(r.Header, body, how.Older)
	case len(body) > 0: // it means nothing in MCP, but the server may read it
		err = invalidRequest("A " + r.Method + " request has a body.")
	}
	if err != nil {
		return nil, nil, err
	}
	judged := r.WithContext(r.Context())
	judged.Header = r.Header.Clone()
	for _, name := range otherProtocol {
		judged.Header.Del(name)
	}
	judged.Trailer, judged.TransferEncoding = nil, nil
	judged.ContentLength = int64(len(body))
	judged.Body = http.NoBody
	if len(body) > 0 {
		judged.Header.Set("Content-Length", strconv.Itoa(len(body)))
		judged.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		judged.Body, _ = judged.GetBody()
	}
	return judged, messages, nil
}

// checkBody returns the messages in body, if they agree with the headers.
func checkBody(h http.Header, body []byte, older bool) ([]Message, error) {
	read, batch, err := readMessages(body)
	if err != nil {
		return nil, invalidRequest("The body is not a JSON-RPC message: " + err.Error() + ".")
	}
	version := h.Get("MCP-Protocol-Version")
	messages := make([]Message, len(read))
	for i, m := range read {
		if batch && max(version, m.version) >= withoutBatches {
			return nil, invalidRequest("The body is a batch, but MCP " + withoutBatches +
				" has none: send one message.")
		}
		id := m.id
		if batch {
			id = nil // an error is about the batch
		}
		if err := checkHeaders(h, m, older); err != nil {
			return nil, rpcRefusal(http.StatusBadRequest, id, codeHeaderMismatch, "Header mismatch: "+err.Error()+".")
		}
		messages[i] = Message{m.id, m.method, m.name, cmp.Or(version, m.version), batch, m.params}
	}
	return messages, nil
}

func tooLong(limit int64) error {
	size := fmt.Sprintf("%d bytes", limit)
	if limit%(1<<20) == 0 {
		size = fmt.Sprintf("%d MiB", limit>>20)
	}
	return &Error{
		Status:      http.StatusRequestEntityTooLarge,
		Code:        "invalid_request",
		Description: "The message is longer than " + size + ".",
	}
}
