package ledger

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Webhook is the configuration of a receiver over HTTP.
type Webhook struct {
	Name    string
	URL     string   // https, or http on a loopback host
	Secret  string   // whsec_… in base64; several, separated by spaces, while one replaces another
	Actions []string // beginnings of the actions that are sent; none: all
	Format  string   // "cardea" or "ocsf"; "" is cardea
}

// The size of a secret in bytes, as Standard Webhooks demands.
const (
	minSecret = 24
	maxSecret = 64
)

// Receiver returns the receiver that w describes, or an error that names the wrong key. Each message is a POST of JSON,
// signed in the form of Standard Webhooks (standardwebhooks.com): webhook-id, webhook-timestamp, webhook-signature.
// Any answer but 2xx is a failure; redirects are not followed.
func (w Webhook) Receiver() (Receiver, error) {
	u, err := url.Parse(w.URL)
	switch {
	case w.Name == "":
		return Receiver{}, errors.New("name: it is missing; it says in the database how far the webhook is")
	case err != nil || u.Host == "" || u.Fragment != "":
		return Receiver{}, errors.New("url: it is not a URL; write it like https://siem.example.com/cardea")
	case !oauth.IsSecure(u):
		return Receiver{}, errors.New("url: it must be https, because events are sent over it; http is for loopback " +
			"hosts")
	case w.Format != "" && w.Format != "cardea" && w.Format != "ocsf":
		return Receiver{}, errors.New("format: use cardea or ocsf")
	}
	var secrets [][]byte
	for _, word := range strings.Fields(w.Secret) {
		text, found := strings.CutPrefix(word, "whsec_")
		secret, err := base64.StdEncoding.DecodeString(text)
		if !found || err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return Receiver{}, errors.New("secret: it must be whsec_ and 24 to 64 bytes in base64; make one with: " +
				"echo whsec_$(openssl rand -base64 32)")
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return Receiver{}, errors.New("secret: it is missing; make one with: echo whsec_$(openssl rand -base64 32)")
	}
	client := newClient()
	return Receiver{Name: w.Name, Actions: w.Actions, Send: func(ctx context.Context, m Message) error {
		return w.post(ctx, client, secrets, m)
	}}, nil
}

// newClient returns the HTTP client for one webhook. The operator chose its address in the configuration, and no
// stranger can, so it may be in a private network. Redirects are not followed, because then the receiver would choose.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  oauth.Proxy,
			DialContext:            oauth.Dial(sendWithin / 2),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    sendWithin / 2,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        1, // one message at a time
			IdleConnTimeout:        time.Minute,
		},
		Timeout:       sendWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// envelope is the payload of a message.
type envelope struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Events     []any  `json:"events"`
		Checkpoint string `json:"checkpoint"`
	} `json:"data"`
}

func (w Webhook) post(ctx context.Context, client *http.Client, secrets [][]byte, m Message) error {
	e := envelope{Type: "audit.events", Timestamp: m.At}
	e.Data.Checkpoint = m.Checkpoint
	for _, event := range m.Events {
		if w.Format == "ocsf" {
			e.Data.Events = append(e.Data.Events, audit.OCSF(event.Event))
		} else {
			e.Data.Events = append(e.Data.Events, event)
		}
	}
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("ledger: webhook: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the request cannot be made; check the url of the webhook") // the error has the URL
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	var signatures []string
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(m.ID + "." + now + "."))
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Cardea")
	r.Header.Set("Webhook-Id", m.ID)
	r.Header.Set("Webhook-Timestamp", now)
	r.Header.Set("Webhook-Signature", strings.Join(signatures, " "))
	response, err := client.Do(r)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) { // the URL may have a secret
			err = wrapped.Err
		}
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)) // so that the connection is used again
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %d", response.StatusCode)
	}
	return nil
}
