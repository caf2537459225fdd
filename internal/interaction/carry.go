package interaction

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// MaxSealed is the longest sealed request, in bytes. It is limited because the request travels in the address of a
// page, and many proxies refuse a request line of more than 8 KB.
const MaxSealed = 6 << 10

// How much a person can be asked to allow at once, in scopes and in bytes of their names. It is limited because the
// browser sends the form that lists them back.
const (
	maxScopes    = 500
	maxScopeText = 32 << 10
)

var errTooManyScopes = oauth.Refuse(oauth.InvalidScope, "scope has too many scopes: request at most %d at once",
	maxScopes)

// errTooLong refuses a request that is too long for MaxSealed.
var errTooLong = oauth.Refuse(oauth.InvalidRequest,
	"the request is too long: send a shorter state, or request fewer scopes")

// carried is the part of an authorization that is sealed: the request, with marks in place of values that are stored
// with the client and the resource. A mark is a few bytes of a keyed hash. It is looked up in the lists as they are
// then, in any order, and matches nothing if the value is gone. A value that is in none of the lists is sealed in full.
type carried struct {
	*Request
	clientID    string
	resourceID  string
	redirectURI string // "" if redirect stands for it
	redirect    mark
	state       string
	marks       []mark    // of the first scopes
	names       scope.Set // of the others
}

// A mark is the first bytes of the hash of a value, keyed with the id of its request, which is secret.
type mark string

const (
	scopeMark    = 3 // bytes; carry notices if two scopes of a resource have the same
	redirectMark = 8
)

func markOf(requestID, value string, size int) mark {
	sum := sha256.Sum256([]byte(requestID + "\x00" + value))
	return mark(sum[:size])
}

// carry returns the part of a that is sealed.
func carry(a *Authorization) *carried {
	c := &carried{Request: a.Request, clientID: a.Client.ID, resourceID: a.Resource.ID, state: a.Reply.State}
	if c.redirect = markOf(a.ID, a.Reply.RedirectURI, redirectMark); c.findRedirect(a.Client) != a.Reply.RedirectURI {
		c.redirectURI, c.redirect = a.Reply.RedirectURI, ""
	}
	for _, name := range a.Scope {
		c.marks = append(c.marks, markOf(a.ID, name, scopeMark))
	}
	if found := c.findScopes(a.Resource); found.String() != a.Scope.String() {
		c.marks, c.names = nil, a.Scope
	}
	return c
}

// findRedirect returns the redirect URI, or "" if the client no longer has it.
func (c *carried) findRedirect(client *oauth.Client) string {
	if c.redirectURI != "" {
		return c.redirectURI
	}
	for _, uri := range client.RedirectURIs {
		if markOf(c.ID, uri, redirectMark) == c.redirect {
			return uri
		}
	}
	return ""
}

// findScopes returns the requested scopes without those that the resource no longer has.
func (c *carried) findScopes(resource *oauth.Resource) scope.Set {
	if len(c.marks) == 0 {
		return c.names
	}
	names := make(map[mark]string, len(resource.Scopes)+1)
	for _, name := range append(resource.ScopeNames(), oauth.OfflineAccess) {
		names[markOf(c.ID, name, scopeMark)] = name
	}
	var found scope.Set
	for _, m := range c.marks {
		if name, ok := names[m]; ok {
			found = append(found, name)
		}
	}
	return found
}

// The bits of the first byte.
const (
	promptNone = 1 << iota
	promptLogin
	promptConsent
	crossSite
	hasMaxAge
	waited
	twoFactors
	named
)

// format is the version of the encoding. It lets a server refuse requests that another version sealed differently.
const format = 1

// encode returns the bytes that decodeCarried reads.
func (c *carried) encode() []byte {
	var flags byte
	for bit, set := range map[byte]bool{promptNone: c.PromptNone, promptLogin: c.PromptLogin,
		promptConsent: c.PromptConsent, crossSite: c.CrossSite, hasMaxAge: c.MaxAge != nil, waited: c.Waited,
		twoFactors: c.TwoFactors, named: c.Named} {
		if set {
			flags |= bit
		}
	}
	w := &writer{b: make([]byte, 0, 512)}
	w.b = append(w.b, format, flags)
	if c.MaxAge != nil {
		w.number(uint64(*c.MaxAge))
	}
	w.number(uint64(c.BegunAt.UnixMicro()))
	w.text(c.ID)
	w.text(c.clientID)
	w.text(c.resourceID)
	w.text(string(c.redirect))
	w.packed(c.redirectURI)
	w.packed(string(c.Challenge))
	w.packed(c.BoundTo)
	w.packed(c.state)
	w.packed(c.LoginHint)
	w.packed(c.names.String())
	w.number(uint64(len(c.marks)))
	for _, m := range c.marks {
		w.b = append(w.b, m...)
	}
	return w.b
}

// decodeCarried reads what encode wrote. It refuses anything else, which was sealed by another version of the server.
func decodeCarried(plain []byte) (*carried, error) {
	r := &reader{b: plain}
	c := &carried{Request: new(Request)}
	if r.byte() != format {
		return nil, errSealed
	}
	flags := r.byte()
	c.PromptNone, c.PromptLogin = flags&promptNone != 0, flags&promptLogin != 0
	c.PromptConsent, c.CrossSite = flags&promptConsent != 0, flags&crossSite != 0
	c.Waited, c.TwoFactors, c.Named = flags&waited != 0, flags&twoFactors != 0, flags&named != 0
	if flags&hasMaxAge != 0 {
		seconds := int64(r.number())
		c.MaxAge = &seconds
	}
	c.BegunAt = time.UnixMicro(int64(r.number())).UTC()
	c.ID, c.clientID, c.resourceID = r.text(), r.text(), r.text()
	c.redirect, c.redirectURI = mark(r.text()), r.packed()
	c.Challenge, c.BoundTo = oauth.Challenge(r.packed()), r.packed()
	c.state, c.LoginHint = r.packed(), r.packed()
	names, err := scope.Parse(r.packed())
	c.names = names
	for range r.number() {
		m := r.take(scopeMark)
		if m == nil {
			break
		}
		c.marks = append(c.marks, mark(m))
	}
	if err != nil || r.broken || len(r.b) > 0 {
		return nil, errSealed
	}
	return c, nil
}

// writer appends values to b.
type writer struct{ b []byte }

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

// How packed text is packed.
const (
	plainText byte = iota
	hexText
	base64Text
	deflated
)

// packed appends s in the shortest of several forms. Hashes, challenges and most states are encoded bytes, which it
// decodes; longer text often has repetitions, which it compresses.
func (w *writer) packed(s string) {
	form, short := plainText, []byte(s)
	if b, err := hex.DecodeString(s); err == nil && hex.EncodeToString(b) == s {
		form, short = hexText, b
	} else if b, err := base64.RawURLEncoding.Strict().DecodeString(s); err == nil &&
		base64.RawURLEncoding.EncodeToString(b) == s {
		form, short = base64Text, b
	}
	if form != hexText && len(s) > 128 {
		if b := deflate(s); len(b) < len(short) {
			form, short = deflated, b
		}
	}
	w.b = append(w.b, form)
	w.text(string(short))
}

// reader takes values from the front of b. If a value is missing, the reader is broken and returns only zero values
// from then on.
type reader struct {
	b      []byte
	broken bool
}

func (r *reader) take(n uint64) []byte {
	if r.broken || n > uint64(len(r.b)) {
		r.broken = true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.broken = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) text() string { return string(r.take(r.number())) }

func (r *reader) packed() string {
	form, short := r.byte(), r.text()
	switch form {
	case hexText:
		return hex.EncodeToString([]byte(short))
	case base64Text:
		return base64.RawURLEncoding.EncodeToString([]byte(short))
	case deflated:
		long, err := io.ReadAll(io.LimitReader(flate.NewReader(strings.NewReader(short)), 64<<10))
		r.broken = r.broken || err != nil
		return string(long)
	}
	return short
}

// deflaters are reused because they are expensive to make.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	return w
}}

func deflate(s string) []byte {
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	var b bytes.Buffer
	w.Reset(&b)
	_, _ = io.WriteString(w, s) // a bytes.Buffer does not fail
	_ = w.Close()
	return b.Bytes()
}
