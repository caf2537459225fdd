package config

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	mostWaiting = 1 << 20     // bytes of a log that wait for its reader
	logPatience = time.Second // with a reader that has begun to take nothing
	atOnce      = 4096        // bytes that a pipe with room takes without waiting: PIPE_BUF of Linux
)

// Unblocked returns a logger, which logger makes, that writes its lines to out. A line is written when the call that
// logs it returns, so that what is acknowledged is in the log even if the process is killed. But if out is a file that
// takes nothing for a second, such as a pipe whose reader hangs, calls wait no longer, because that must not stop a
// server: about a thousand lines wait, further ones are dropped, and a line tells how many. end writes what waits, and
// gives up after a second.
func Unblocked(out io.Writer, logger func(io.Writer) *slog.Logger) (log *slog.Logger, end func()) {
	file, isFile := out.(*os.File)
	if !isFile || isRegular(file) {
		return logger(out), func() {}
	}
	u := &unblocked{out: file}
	u.own = logger(&u.waiting)
	return logger(u), u.end
}

// isRegular reports whether file is on a disk, which has no reader to wait for.
func isRegular(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}

// unblocked is a writer of lines.
type unblocked struct {
	out *os.File
	own *slog.Logger // writes to waiting

	mu      sync.Mutex
	waiting lines
	stuck   bool // out took nothing when it was last asked
	dropped int  // lines, since it was told
}

// lines is text that waits to be written.
type lines []byte

func (l *lines) Write(text []byte) (int, error) {
	*l = append(*l, text...)
	return len(text), nil
}

// Write takes one line, and writes it if out takes it.
func (u *unblocked) Write(text []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.waiting) == 0 && len(text) <= atOnce && u.hasRoom() {
		return u.out.Write(text)
	}
	if u.dropped > 0 || len(u.waiting)+len(text) > mostWaiting { // once one is, all are until that is told
		u.dropped++
	} else {
		u.waiting = append(u.waiting, text...)
	}
	u.flush()
	return len(text), nil
}

// flush writes what waits while out takes it, and says how many lines were dropped.
func (u *unblocked) flush() {
	for len(u.waiting) > 0 && u.hasRoom() {
		n, err := u.out.Write(u.waiting[:min(len(u.waiting), atOnce)])
		if u.waiting = u.waiting[n:]; err != nil { // there is nowhere to say it
			u.waiting = nil
		}
		if u.dropped > 0 && len(u.waiting) < mostWaiting/2 {
			u.own.Warn("lines of this log were dropped, because what reads it took none for a while; "+
				"nothing else waited for it", "lines", u.dropped)
			u.dropped = 0
		}
	}
}

// hasRoom reports whether out takes atOnce bytes without waiting. The first time that it does not, hasRoom waits a
// second for it.
func (u *unblocked) hasRoom() bool {
	patience := logPatience
	if u.stuck {
		patience = 0
	}
	u.stuck = !hasRoom(u.out, patience)
	return !u.stuck
}

func (u *unblocked) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stuck = false
	u.flush()
}
