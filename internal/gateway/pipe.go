package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Pipe runs the program of a server that is a command, outside any session. ask sends a message to it, and returns the
// answer, or nothing if the message is a notification; it is for one goroutine. stop ends the program, and all that it
// started.
func Pipe(s *Server, log *slog.Logger) (ask func(context.Context, []byte) ([]byte, error), stop func(), err error) {
	var mu sync.Mutex
	answers := make(chan []byte, maxWaiting)
	over := false
	c, err := startChild(s, log, usualPatience, func(line []byte) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case over:
		case line == nil:
			over = true
			close(answers)
		default:
			select {
			case answers <- line:
			default: // it says more than was asked for
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, message []byte) ([]byte, error) {
		if err := c.send(message); err != nil {
			return nil, fmt.Errorf("gateway: the program does not listen: %w", err)
		}
		asked, _ := objectOf(message)
		id := find(asked, "id")
		if id == nil {
			return nil, nil
		}
		for {
			select {
			case line, more := <-answers:
				if !more {
					return nil, errors.New("gateway: the program ended by itself")
				}
				if said, ok := objectOf(line); ok && find(said, "method") == nil && same(find(said, "id"), id) {
					return line, nil
				}
			case <-ctx.Done():
				return nil, errors.New("gateway: the program did not answer in time")
			}
		}
	}, c.silence, nil
}

// silence ends the program, and waits until what it said on standard error is read, unless somebody else holds that.
func (c *child) silence() {
	c.stop()
	select {
	case <-c.quiet:
	case <-time.After(time.Second):
	}
}

// same reports whether two ids are equal.
func same(a, b jsontext.Value) bool {
	var one, other any
	return json.Unmarshal(a, &one) == nil && json.Unmarshal(b, &other) == nil && one == other
}
