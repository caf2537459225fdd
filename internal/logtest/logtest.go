// Package logtest has a log for tests.
package logtest

import (
	"strings"
	"sync"
)

// Log is a log that a test reads while the program writes it. The zero Log is empty.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds p to the log. It does not fail.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
