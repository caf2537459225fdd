package gateway

import (
	"bufio"
	"bytes"
	"errors"
)

// maxEvent is how long an event of a stream may be, in bytes.
const maxEvent = 16 << 20

var errLongEvent = errors.New("the server sent an event, or a line, of more than 16 MiB")

// event is an event of a stream (WHATWG HTML, "Server-sent events"), or a comment.
type event struct {
	lines [][]byte // without their ends
}

// messageEvent returns the event of a message without line feeds.
func messageEvent(message []byte) event {
	return event{[][]byte{[]byte("event: message"), append([]byte("data: "), message...)}}
}

// byteOrderMark may stand before a text. Readers of streams leave it out (WHATWG HTML, "Server-sent events").
var byteOrderMark = []byte("\ufeff")

// eventReader reads the events of a stream.
type eventReader struct {
	r       *bufio.Reader
	begun   bool // whether the first line has been read
	afterCR bool // whether a line feed that comes next belongs to the line before
}

// next reads the next event. It returns io.EOF at the end, also if the last event is incomplete, which counts for
// nothing.
func (er *eventReader) next() (e event, err error) {
	for size := 0; ; {
		line, err := er.line(maxEvent - size)
		if err != nil {
			return e, err
		}
		size += len(line) + 1
		if len(line) > 0 {
			e.lines = append(e.lines, line)
		} else if len(e.lines) > 0 {
			return e, nil
		}
	}
}

// line reads a line that ends with LF, CRLF or CR, and returns it without the end. It waits for nothing behind a CR,
// because that may be the end of an event.
func (er *eventReader) line(limit int) (line []byte, err error) {
	for {
		if _, err := er.r.Peek(1); err != nil {
			return nil, err
		}
		part, _ := er.r.Peek(er.r.Buffered())
		if er.afterCR && part[0] == '\n' {
			_, _ = er.r.Discard(1)
			part = part[1:]
		}
		er.afterCR = false
		end := bytes.IndexByte(part, '\n')
		if end < 0 {
			end = len(part)
		}
		if cr := bytes.IndexByte(part[:end], '\r'); cr >= 0 {
			end, er.afterCR = cr, true
		}
		line = append(line, part[:end]...)
		if len(line) > limit {
			return nil, errLongEvent
		}
		if end == len(part) {
			_, _ = er.r.Discard(end)
			continue
		}
		_, _ = er.r.Discard(end + 1)
		if !er.begun {
			line, er.begun = bytes.TrimPrefix(line, byteOrderMark), true
		}
		return line, nil
	}
}

// readLine reads a line of at most limit bytes and returns it without LF or CRLF.
func readLine(r *bufio.Reader, limit int) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return nil, errLongEvent
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return nil, err
		default:
			return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
		}
	}
}

// field returns the values of a field, joined with line feeds, and whether the event has it.
func (e event) field(name string) (value []byte, found bool) {
	for _, line := range e.lines {
		key, rest, _ := bytes.Cut(line, []byte(":"))
		if string(key) != name {
			continue
		}
		if found {
			value = append(append(bytes.Clone(value), '\n'), bytes.TrimPrefix(rest, []byte(" "))...)
			continue
		}
		value, found = bytes.TrimPrefix(rest, []byte(" ")), true
	}
	return value, found
}

// set replaces the values of a field by one. Each of its lines becomes a line of the event.
func (e *event) set(name string, value []byte) {
	lines := make([][]byte, 0, len(e.lines))
	done := false
	for _, line := range e.lines {
		if key, _, _ := bytes.Cut(line, []byte(":")); string(key) != name {
			lines = append(lines, line)
		} else if !done {
			for part := range bytes.SplitSeq(value, []byte("\n")) {
				lines = append(lines, append([]byte(name+": "), part...))
			}
			done = true
		}
	}
	e.lines = lines
}

// bytes returns the event as it is sent.
func (e event) bytes() []byte {
	return append(bytes.Join(e.lines, []byte("\n")), "\n\n"...)
}
