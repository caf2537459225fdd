package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	connections = 64
	warmUp      = 300 * time.Millisecond // before counting begins
)

// next makes a connection's next request, of the body of the answer to its last
// one, which is nil at first.
type next func(connection int, body []byte) ([]byte, error)

// figures are what a turn of load says of a server.
type figures struct {
	rate float64 // requests a second that were answered with 200
	cpu  float64 // microseconds of processor time, user's and system's, for each of them
}

// load sends requests to a server on 64 connections, one at a time on each. It
// writes and reads HTTP/1.1 by hand: a client that costs more than the server would
// measure itself.
func load(s server, seconds time.Duration, request next) (figures, error) {
	var answered atomic.Int64
	var stop atomic.Bool
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			errs[i] = talk(s.address, func(body []byte) ([]byte, error) {
				if stop.Load() {
					return nil, io.EOF
				}
				return request(i, body)
			}, &answered)
			if errs[i] != nil {
				stop.Store(true)
			}
		})
	}
	time.Sleep(warmUp)
	from, before := time.Now(), answered.Load()
	busyBefore, err := busy(s.pid)
	time.Sleep(seconds)
	count, took := float64(answered.Load()-before), time.Since(from)
	busyAfter, alsoErr := busy(s.pid)
	stop.Store(true)
	wg.Wait()
	return figures{count / took.Seconds(), float64((busyAfter - busyBefore).Microseconds()) / count}, errors.Join(append(errs, err, alsoErr)...)
}

// busy returns how much processor time a process has taken (proc(5), stat).
func busy(pid int) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var user, system int64
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name before may hold anything
	if len(fields) > 12 {
		_, err = fmt.Sscan(string(fields[11])+" "+string(fields[12]), &user, &system)
	} else {
		err = fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	return time.Duration(user+system) * tick, err
}

// talk sends what request makes until that is io.EOF. Every request is answered
// and its answer handed to request, so that no refresh token is lost.
func talk(address string, request func(body []byte) ([]byte, error), answered *atomic.Int64) error {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReaderSize(conn, 16<<10)
	var body []byte
	for {
		wire, err := request(body)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(wire); err != nil {
			return err
		}
		if body, err = answer(r, body); err != nil {
			return err
		}
		answered.Add(1)
	}
}

// answer reads one answer and returns its body, in the memory of the last one.
func answer(r *bufio.Reader, body []byte) ([]byte, error) {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	ok := bytes.HasPrefix(status, []byte("HTTP/1.1 200 "))
	first := ""
	if !ok {
		first = string(bytes.TrimSpace(status))
	}
	length := -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		if value, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, fmt.Errorf("an answer has no Content-Length: %s", first)
	}
	body = append(body[:0], make([]byte, length)...)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %s", first, body)
	}
	return body, nil
}

// get is the same GET again and again.
func get(path string) next {
	wire := []byte("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	return func(int, []byte) ([]byte, error) { return wire, nil }
}

// post is the same form again and again; header is none or lines that end in CRLF.
func post(path, header, form string) next {
	wire := []byte(formRequest(path, header, form))
	return func(int, []byte) ([]byte, error) { return wire, nil }
}

func formRequest(path, header, form string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: localhost\r\n" + header +
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " + strconv.Itoa(len(form)) + "\r\n\r\n" + form
}
