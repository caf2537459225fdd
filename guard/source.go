package guard

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// interval is the least time between two fetches after a failure, and between two fetches for unknown keys.
	interval = 5 * time.Second

	// stale is how long a document is used while the issuer cannot be reached.
	stale = 24 * time.Hour

	// patience is how long the issuer may take to answer.
	patience = 10 * time.Second
)

// source caches a document of the issuer. The first call of current fetches the document, and a call after it has
// expired fetches it again in the background. While fetching fails, current returns the old document for up to a day.
// At most one fetch runs at a time.
type source[T any] struct {
	fetch  func(context.Context) (value T, fresh time.Duration, err error)
	now    func() time.Time
	failed func(error) // is called with every failure

	flight singleflight.Group

	mu         sync.RWMutex
	value      T
	got        time.Time // when value was fetched; zero before the first success
	freshUntil time.Time
	tried      time.Time // when the last fetch began
	asked      time.Time // when again last fetched
	err        error     // of the last fetch
}

// current returns the document. It blocks on a fetch only if no document is cached, or if the cached one is more than a
// day past its freshness.
func (s *source[T]) current(ctx context.Context) (T, error) {
	now := s.now()
	s.mu.RLock()
	value := s.value
	isFresh := !s.got.IsZero() && now.Before(s.freshUntil)
	usable := !s.got.IsZero() && now.Before(s.got.Add(stale))
	due := s.due(now)
	s.mu.RUnlock()
	switch {
	case isFresh:
		return value, nil
	case usable && due:
		s.flight.DoChan("", s.refresh)
		return value, nil
	case usable:
		return value, nil
	}
	return s.wait(ctx, s.refresh)
}

// again fetches the document once more, unless it did so within the interval. The error is that of the last fetch; with
// an error it returns the document of an earlier one, if there is one.
func (s *source[T]) again(ctx context.Context) (T, error) {
	return s.wait(ctx, func() (any, error) {
		now := s.now()
		s.mu.Lock()
		soon := now.Before(s.asked.Add(interval))
		if !soon {
			s.asked = now
		}
		s.mu.Unlock()
		if soon {
			return s.last()
		}
		return s.load(now)
	})
}

// due reports whether the last fetch succeeded or is at least an interval ago. s.mu must be held.
func (s *source[T]) due(now time.Time) bool {
	return s.err == nil || !now.Before(s.tried.Add(interval))
}

// refresh fetches the document, unless that failed within the interval or another call has fetched it meanwhile.
func (s *source[T]) refresh() (any, error) {
	now := s.now()
	s.mu.RLock()
	needed := s.due(now) && (s.got.IsZero() || !now.Before(s.freshUntil))
	s.mu.RUnlock()
	if !needed {
		return s.last()
	}
	return s.load(now)
}

// peek returns the document in memory, or the zero value.
func (s *source[T]) peek() T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.value
}

func (s *source[T]) last() (any, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.value, s.err
}

func (s *source[T]) load(now time.Time) (any, error) {
	// The request that caused the fetch may end first; others wait for it too.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	value, fresh, err := s.fetch(ctx)
	s.mu.Lock()
	s.tried, s.err = now, err
	if err == nil {
		s.value, s.got, s.freshUntil = value, now, now.Add(fresh)
	}
	value = s.value
	s.mu.Unlock()
	if err != nil {
		s.failed(err)
	}
	return value, err
}

// wait joins the fetch under way, or starts one.
func (s *source[T]) wait(ctx context.Context, fetch func() (any, error)) (T, error) {
	select {
	case done := <-s.flight.DoChan("", fetch):
		return done.Val.(T), done.Err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
