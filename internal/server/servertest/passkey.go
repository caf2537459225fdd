package servertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"testing"
)

// Authenticator is a device that keeps one passkey. Its fields may be changed between uses, as an attacker or a broken
// device would.
type Authenticator struct {
	ID, Handle []byte // of the passkey, and of the account
	Key        *ecdsa.PrivateKey
	AAGUID     [16]byte
	Count      uint32 // sent as it is; 0: it does not count
	Verified   bool   // the person unlocks it
	Synced     bool
	Origin     string // of the page, as the browser says
	RPID       string // for which it signs
	Type       string // of the client data; "": as it must be
	Challenge  string // instead of the page's, if it is not ""

	t testing.TB
}

// Authenticator returns a device without a passkey, at the server's own pages.
func (s *Server) Authenticator(t testing.TB) *Authenticator {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{Verified: true, Origin: s.URL, RPID: u.Hostname(), t: t}
}

// ceremony is what a page asks of an authenticator.
type ceremony struct {
	Challenge string
	RPID      string
	User      struct{ ID string }
	Exclude   []struct{ ID string } `json:"excludeCredentials"`
}

// asked returns what the page asks of an authenticator, in its attribute name.
func (a *Authenticator) asked(p *Page, name string) (c ceremony) {
	a.t.Helper()
	m := regexp.MustCompile(name + `="([^"]*)"`).FindStringSubmatch(p.Body)
	if m == nil {
		a.t.Fatalf("the page asks for no passkey (status %d):\n%s", p.Status, p.Body)
	}
	if err := json.Unmarshal([]byte(html.UnescapeString(m[1])), &c); err != nil {
		a.t.Fatalf("what the page asks of a passkey: %v", err)
	}
	if a.Challenge != "" {
		c.Challenge = a.Challenge
	}
	return c
}

// Create makes the passkey that the page asks for, and returns the browser's answer.
func (a *Authenticator) Create(p *Page) string {
	a.t.Helper()
	c := a.asked(p, "data-new-passkey")
	var err error
	if a.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		a.t.Fatal(err)
	}
	a.ID = make([]byte, 20)
	_, _ = rand.Read(a.ID)
	if a.Handle, err = base64.RawURLEncoding.DecodeString(c.User.ID); err != nil {
		a.t.Fatal(err)
	}
	point, err := a.Key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		a.t.Fatal(err)
	}
	data := append(a.data(0x40), a.AAGUID[:]...)
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(a.ID))), a.ID...)
	// A COSE_Key in CBOR: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
	data = append(append(data, 0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32), point[1:33]...)
	data = append(append(data, 0x22, 0x58, 32), point[33:]...)
	// {"fmt": "none", "attStmt": {}, "authData": data}
	object := append([]byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58"), byte(len(data)))
	return a.answer(map[string]any{"clientDataJSON": text(a.clientData("webauthn.create", c.Challenge)),
		"attestationObject": text(append(object, data...)), "transports": []string{"internal", "hybrid"}})
}

// Use signs in with the passkey as the page asks, and returns the browser's answer.
func (a *Authenticator) Use(p *Page) string {
	a.t.Helper()
	client, data := a.clientData("webauthn.get", a.asked(p, "data-passkey").Challenge), a.data(0)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(data, hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.Key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.answer(map[string]any{"clientDataJSON": text(client), "authenticatorData": text(data),
		"signature": text(signature), "userHandle": text(a.Handle)})
}

func (a *Authenticator) answer(response map[string]any) string {
	answer, err := json.Marshal(map[string]any{"id": text(a.ID), "rawId": text(a.ID), "type": "public-key",
		"response": response, "clientExtensionResults": map[string]any{}})
	if err != nil {
		a.t.Fatal(err)
	}
	return string(answer)
}

func (a *Authenticator) clientData(kind, challenge string) []byte {
	if a.Type != "" {
		kind = a.Type
	}
	data, err := json.Marshal(map[string]any{
		"type": kind, "challenge": challenge, "origin": a.Origin, "crossOrigin": false})
	if err != nil {
		a.t.Fatal(err)
	}
	return data
}

// data returns authenticator data with flags beside those of the fields.
func (a *Authenticator) data(flags byte) []byte {
	flags |= 1 // somebody is there
	if a.Verified {
		flags |= 4
	}
	if a.Synced {
		flags |= 8 | 16
	}
	hash := sha256.Sum256([]byte(a.RPID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.Count)
}

func text(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// WithPasskey sends the form of the page that asks for a passkey, with the browser's answer.
func (p *Page) WithPasskey(answer string) *Page {
	p.Browser.t.Helper()
	return p.Submit(p.Form("passkey"), With("passkey", answer))
}
