package fetch

import (
	"context"
	"sync"
)

const (
	atOnce        = 32 // fetches
	atOncePerHost = 2
)

// turns makes fetches wait for each other, so that neither this server nor one
// host has too many connections of them.
type turns struct {
	all chan struct{} // holds one token for each fetch

	mu    sync.Mutex
	hosts map[string]*hostTurns
}

type hostTurns struct {
	fetching chan struct{} // as all
	users    int           // fetching or waiting; with none the host is forgotten
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, atOnce), hosts: make(map[string]*hostTurns)}
}

// wait returns when a document of host may be fetched; leave ends that. The error
// is that of ctx.
func (t *turns) wait(ctx context.Context, host string) (leave func(), err error) {
	h := t.join(host)
	// The host first: a fetch that waits for a slow host takes no turn from others.
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
