package config

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// Unblocked returns a logger, which logger makes, whose lines are written to out in their order and never wait for it,
// because a program that reads the log and hangs must not stop a server. While out takes nothing, some thousand lines
// wait; further ones are dropped, and a line tells how many. end writes what waits, and gives up after a second. Lines
// after that are dropped.
func Unblocked(out io.Writer, logger func(io.Writer) *slog.Logger) (log *slog.Logger, end func()) {
	u := &unblocked{lines: make(chan []byte, mostLines)}
	log = logger(u)
	ending, written := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(written)
		for {
			select {
			case line := <-u.lines:
				_, _ = out.Write(line) // there is nowhere to say that it failed
				if len(u.lines) < mostLines/2 {
					u.tell(log)
				}
			case <-ending:
				u.drain(out)
				u.tell(log)
				u.drain(out)
				return
			}
		}
	}()
	return log, func() {
		close(ending)
		select {
		case <-written:
		case <-time.After(time.Second):
		}
	}
}

// mostLines is how many lines of the log wait at most.
const mostLines = 4096

// unblocked is a writer of lines.
type unblocked struct {
	lines   chan []byte
	dropped atomic.Int64 // since it was told
}

// Write takes one line.
func (u *unblocked) Write(line []byte) (int, error) {
	select {
	case u.lines <- append([]byte(nil), line...): // the caller uses its own again
	default:
		u.dropped.Add(1)
	}
	return len(line), nil
}

// drain writes what waits.
func (u *unblocked) drain(out io.Writer) {
	for len(u.lines) > 0 {
		_, _ = out.Write(<-u.lines)
	}
}

// tell says how many lines were dropped, if any were.
func (u *unblocked) tell(log *slog.Logger) {
	if n := u.dropped.Swap(0); n > 0 {
		log.Warn("lines of this log were dropped, because what reads it took none for a while; nothing else waited for it",
			"lines", n)
	}
}
