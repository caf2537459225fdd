// Package mail sends letters to people: it makes their text and their HTML, waits for the mail server so that no
// request has to, and bounds how many anybody gets.
package mail

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/idna"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Letter is what a mail says. Its text and its HTML are made of the same words.
type Letter struct {
	To string // e-mail address
	// Kind is what it is about, in one word: "sign_in". Each kind has its own limit for an address, so that one that
	// anybody can ask for does not use up that of another.
	Kind string
	// Device is the id of a device that the owner of the address has used before, or "". It has its own limit, so that
	// a stranger does not use up that of the owner.
	Device string
	// Nobody is whether the letter is counted but not sent, because no account has the address. The person who asked
	// for it sees no difference.
	Nobody bool

	Subject string   // has no secret, because devices show it while they are locked
	Lines   []string // paragraphs
	Link    string   // URL; "": none
	Button  string   // what the link does
	Code    string   // to type; "": none
	Notes   []string // paragraphs after the link and the code
}

// Options are what a Mailer needs. All fields must be set, except that Allow may be nil.
type Options struct {
	Config
	Site  string // the host at which people know this server
	Color string // of the button, like #0b6b60, dark enough for white text; "": Cardea's
	// Allow takes one letter from the budget of a key, or says how long to wait for the next (limit.Limiter.Allow); nil
	// means no limit.
	Allow func(key string) (ok bool, retryAfter time.Duration)
	Log   *slog.Logger
}

// Mailer sends letters in the background. It is safe for concurrent use.
type Mailer struct {
	o       Options
	deliver func(ctx context.Context, to, subject, text, html string) error

	mu      sync.Mutex
	queue   []*job
	working int           // goroutines that deliver
	delayed int           // letters that are tried again later
	idle    chan struct{} // closed when queue is empty and nothing is delivered; nil if nobody waits
	closed  bool
	ctx     context.Context
	stop    context.CancelFunc
}

type job struct {
	kind    string
	compose func(context.Context) (*Letter, error)
	letter  *Letter                     // once it is composed
	done    func(context.Context) error // nil: nothing follows
	tries   int
}

// Bounds of the work, and when a letter is tried again that the mail server did not take for now.
const (
	maxQueue   = 1000
	maxWorking = 4
	timeout    = time.Minute // of one delivery
)

var pauses = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute}

// New returns a Mailer. It returns an error if its Config is not good.
func New(o Options) (*Mailer, error) {
	m := &Mailer{o: o, deliver: o.Deliver}
	if m.deliver == nil {
		if err := o.Check(); err != nil {
			return nil, err
		}
		server, err := parseServer(o.SMTP)
		if err != nil {
			return nil, err
		}
		m.deliver = func(ctx context.Context, to, subject, text, html string) error {
			return server.send(ctx, o.From, to, subject, text, html)
		}
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m, nil
}

// Send puts a letter into the queue and returns at once: nil says nothing of whether it arrives. It refuses a letter
// for an address that got too many of its kind, and any letter while too many wait.
func (m *Mailer) Send(l Letter) error {
	if err := m.Admit(&l); err != nil {
		return err
	}
	return m.SendAdmitted(l)
}

// SendAdmitted is Send for a letter that Admit has let through.
func (m *Mailer) SendAdmitted(l Letter) error { return m.enqueue(&job{kind: l.Kind, letter: &l}) }

// Later queues a letter of a kind, which compose makes when its turn comes; a nil letter is not sent. A letter that
// cannot be queued or composed is logged. done is called once the letter is sent, or if it never will be, because it is
// nil or the mail server refused it permanently.
func (m *Mailer) Later(kind string, compose func(context.Context) (*Letter, error), done func(context.Context) error) {
	if err := m.enqueue(&job{kind: kind, compose: compose, done: done}); err != nil {
		m.o.Log.Warn("a mail was not sent", "kind", kind, "error", err)
	}
}

// Admit counts a letter, of which it reads To, Kind and Device, and refuses it if its address got too many.
func (m *Mailer) Admit(l *Letter) error {
	if m.o.Allow == nil {
		return nil
	}
	if ok, wait := m.o.Allow(l.Kind + " " + l.Device + " " + identity.EmailKey(l.To)); !ok {
		return oauth.RefuseForNow(wait, "too many mails to this address")
	}
	return nil
}

// ErrFull refuses a letter while too many wait to be sent.
var ErrFull = oauth.RefuseStatus(http.StatusServiceUnavailable, oauth.TemporarilyUnavailable,
	"too many mails are waiting to be sent: try again in a minute")

func (m *Mailer) enqueue(j *job) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.queue) >= maxQueue {
		return ErrFull
	}
	m.queue = append(m.queue, j)
	if m.working < maxWorking {
		m.working++
		go m.work()
	}
	return nil
}

// work delivers what is in the queue, until that is empty.
func (m *Mailer) work() {
	for {
		m.mu.Lock()
		if len(m.queue) == 0 {
			m.working--
			if m.working == 0 && m.idle != nil {
				close(m.idle)
				m.idle = nil
			}
			m.mu.Unlock()
			return
		}
		j := m.queue[0]
		m.queue = m.queue[1:]
		m.mu.Unlock()
		m.do(j)
	}
}

// do composes and delivers one letter.
func (m *Mailer) do(j *job) {
	ctx, cancel := context.WithTimeout(m.ctx, timeout)
	defer cancel()
	err := m.write(ctx, j)
	if j.done != nil && (err == nil || permanent(err)) {
		if err := j.done(m.ctx); err != nil {
			m.o.Log.Warn("a mail was dealt with, and may be sent again, because that could not be stored", "kind",
				j.kind, "error", err)
		}
	}
	if err == nil {
		return
	}
	m.mu.Lock()
	again := !m.closed && j.tries < len(pauses) && !permanent(err) && m.delayed < maxQueue
	if again {
		pause := pauses[j.tries]
		j.tries++
		m.delayed++
		time.AfterFunc(pause, func() { m.retry(j) })
	}
	m.mu.Unlock()
	m.o.Log.Warn("a mail could not be sent", "kind", j.kind, "error", err, "again", again)
}

func (m *Mailer) retry(j *job) {
	m.mu.Lock()
	m.delayed--
	m.mu.Unlock()
	if err := m.enqueue(j); err != nil {
		m.o.Log.Warn("a mail was not sent", "kind", j.kind, "error", err)
	}
}

func (m *Mailer) write(ctx context.Context, j *job) error {
	if j.letter == nil {
		l, err := j.compose(ctx)
		if err == nil && l != nil {
			err = m.Admit(l)
		}
		if err != nil || l == nil {
			return err
		}
		j.letter = l
	}
	if j.letter.Nobody {
		return nil
	}
	text, html, err := j.letter.render(m.o)
	if err != nil {
		return err
	}
	return m.deliver(ctx, address(j.letter.To), j.letter.Subject, text, html)
}

// permanent reports whether an error stays if the letter is tried again.
func permanent(err error) bool { return errors.Is(err, errRejected) || oauth.IsRefusal(err) }

// address returns an e-mail address with its domain in the form that mail servers know (RFC 5891 §4.4).
func address(to string) string {
	to = strings.TrimSpace(to)
	at := strings.LastIndexByte(to, '@')
	if domain, err := idna.Lookup.ToASCII(to[at+1:]); err == nil {
		return to[:at+1] + domain
	}
	return to
}

// Flush waits until what is in the queue has been tried, or ctx is done.
func (m *Mailer) Flush(ctx context.Context) error {
	m.mu.Lock()
	if m.working == 0 {
		m.mu.Unlock()
		return nil
	}
	if m.idle == nil {
		m.idle = make(chan struct{})
	}
	idle := m.idle
	m.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close takes no more letters, waits until those in the queue have been tried or ctx is done, and drops the others.
func (m *Mailer) Close(ctx context.Context) {
	m.mu.Lock()
	m.closed = true
	lost := m.delayed
	m.mu.Unlock()
	err := m.Flush(ctx)
	m.mu.Lock()
	lost += len(m.queue)
	m.queue = nil
	m.mu.Unlock()
	m.stop()
	if lost > 0 {
		m.o.Log.Warn("mails that were not sent yet are lost, because the server stops", "number", lost, "error", err)
	}
}
