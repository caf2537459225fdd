package fetch

import (
	"context"
	"sync"
)

const (
	atOnce        = 32 // fetches
	atOncePerHost = 2
)

// turns bounds concurrent fetches, in total and for each host. Other fetches wait.
type turns struct {
	all chan struct{} // holds one token for each fetch

	mu    sync.Mutex
	hosts map[string]*hostTurns
}

type hostTurns struct {
	fetching chan struct{} // like turns.all, for this host
	users    int           // fetching or waiting; if 0, the host is deleted
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, atOnce), hosts: make(map[string]*hostTurns)}
}

// wait blocks until a document of host may be fetched. The caller must call leave after the fetch. The error is that of
// ctx.
func (t *turns) wait(ctx context.Context, host string) (leave func(), err error) {
	h := t.join(host)
	// The host comes first, so that a fetch that waits for a slow host does not take a turn from others.
	if err := take(ctx, h.fetching); err != nil {
		t.part(host)
		return nil, err
	}
	if err := take(ctx, t.all); err != nil {
		<-h.fetching
		t.part(host)
		return nil, err
	}
	return func() {
		<-t.all
		<-h.fetching
		t.part(host)
	}, nil
}

func take(ctx context.Context, tokens chan<- struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turns) join(host string) *hostTurns {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[host]
	if h == nil {
		h = &hostTurns{fetching: make(chan struct{}, atOncePerHost)}
		t.hosts[host] = h
	}
	h.users++
	return h
}

func (t *turns) part(host string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hosts[host]
	if h.users--; h.users == 0 {
		delete(t.hosts, host)
	}
}
