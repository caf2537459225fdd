package config

import (
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	mostLines   = 4096        // of a log that wait for its reader
	logPatience = time.Second // with a reader that has begun to take no lines
)

// Unblocked returns a logger, which logger makes, that writes its lines to out in their order. A line is written when
// the call that logs it returns, so that what is acknowledged is in the log even if the process is killed. But if out
// takes nothing for a second, calls wait no longer, because a program that reads the log and hangs must not stop a
// server: some thousand lines wait, further ones are dropped, and a line tells how many. end writes what waits, and
// gives up after a second. Lines after that are dropped.
func Unblocked(out io.Writer, logger func(io.Writer) *slog.Logger) (log *slog.Logger, end func()) {
	u := &unblocked{lines: make(chan line, mostLines)}
	log = logger(u)
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case l := <-u.lines:
				u.put(out, l)
				if len(u.lines) < mostLines/2 {
					u.tell(log)
				}
				if len(u.lines) == 0 {
					u.stuck.Store(false)
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
		u.stuck.Store(true)
		close(ending)
		select {
		case <-ended:
		case <-time.After(logPatience):
		}
	}
}

// unblocked is a writer of lines.
type unblocked struct {
	lines   chan line
	stuck   atomic.Bool  // out took nothing for a while, and lines wait
	dropped atomic.Int64 // since it was told
}

type line struct {
	text    []byte
	written chan struct{} // is closed then
}

// Write takes one line, and waits until it is written unless out is stuck.
func (u *unblocked) Write(text []byte) (int, error) {
	l := line{append([]byte(nil), text...), make(chan struct{})} // the caller uses its own again
	select {
	case u.lines <- l:
	default:
		u.dropped.Add(1)
		return len(text), nil
	}
	if u.stuck.Load() {
		return len(text), nil
	}
	patience := time.NewTimer(logPatience)
	defer patience.Stop()
	select {
	case <-l.written:
	case <-patience.C:
		u.stuck.Store(true)
	}
	return len(text), nil
}

// put writes one line.
func (u *unblocked) put(out io.Writer, l line) {
	_, _ = out.Write(l.text) // there is nowhere to say that it failed
	close(l.written)
}

// drain writes what waits.
func (u *unblocked) drain(out io.Writer) {
	for len(u.lines) > 0 {
		u.put(out, <-u.lines)
	}
}

// tell says how many lines were dropped, if any were: then out is stuck still, and logging waits for nothing.
func (u *unblocked) tell(log *slog.Logger) {
	if n := u.dropped.Swap(0); n > 0 {
		log.Warn("lines of this log were dropped, because what reads it took none for a while; nothing else waited for it",
			"lines", n)
	}
}
