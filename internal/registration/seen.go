package registration

import "sync"

// seenEach is how many fingerprints a generation of seen has, each of 64 bytes.
const seenEach = 5000

// seen has the fingerprints that this process stored or found last, at least seenEach of them. It tells where to look
// for a client first: reading takes no turn of the writer, and a transaction that writes finds a new registration new
// without a look before it. The zero seen is empty.
type seen struct {
	mu         sync.Mutex
	young, old map[string]struct{}
}

func (s *seen) has(fingerprint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.young[fingerprint]; ok {
		return true
	}
	_, ok := s.old[fingerprint]
	return ok
}

func (s *seen) add(fingerprint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= seenEach || s.young == nil {
		s.young, s.old = map[string]struct{}{}, s.young
	}
	s.young[fingerprint] = struct{}{}
}
