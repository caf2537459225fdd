package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/scope"
)

// A cohort is a group of signed-in people who each have the same number of earlier grants. A flow adds a grant, so the
// fewer grants they have, the more people take turns.
type cohort struct {
	people, grants int
	sessions       []string // one for each person
}

func cohorts() []*cohort {
	return []*cohort{{people: 4000, grants: 1}, {people: 20, grants: 1000}, {people: 1, grants: 100_000}}
}

// history writes the earlier grants of people, and their sessions, to the database that the server will open, with the
// spent codes and events that their flows would have left.
func history(ctx context.Context, dir string, app party, cohorts []*cohort) (err error) {
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(dir, "cardea.db"), store.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if closed := db.Close(); err == nil {
			err = closed
		}
	}()
	var target *oauth.Resource
	if err := db.View(ctx, func(tx *store.Tx) (err error) {
		target, err = tx.Resource(resource)
		return err
	}); err != nil {
		return err
	}
	const together = 2000 // grants per transaction
	for _, c := range cohorts {
		var users []string
		if err := db.Update(ctx, func(tx *store.Tx) error {
			for range c.people {
				user, secret := oauth.NewID("usr_"), oauth.NewSecret("")
				users, c.sessions = append(users, user), append(c.sessions, secret)
				err := tx.CreateUser(&identity.User{ID: user, Email: user + "@example.com", Name: "Ada",
					CreatedAt: tx.Now()})
				if err == nil {
					err = tx.CreateSession(&identity.Session{Hash: oauth.Hash(secret), UserID: user,
						SignedInAt: tx.Now(), AMR: []string{"pwd"},
						SeenAt: tx.Now(), ExpiresAt: tx.Now().Add(time.Hour), EndsAt: tx.Now().Add(time.Hour)})
				}
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
		for from := 0; from < c.people*c.grants; from += together {
			if err := db.Update(ctx, func(tx *store.Tx) error {
				for i := from; i < min(from+together, c.people*c.grants); i++ {
					if err := allowed(tx, users[i%c.people], app.ClientID, target,
						tx.Now().Add(-24*time.Hour).Add(time.Duration(i)*100*time.Millisecond)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// allowed stores a grant that was created and redeemed at the given time.
func allowed(tx *store.Tx, user, client string, target *oauth.Resource, at time.Time) error {
	g := &oauth.Grant{ID: oauth.NewID("grt_"), ClientID: client, UserID: user, ResourceID: target.ID,
		RedirectURI: redirectURI, Scope: scope.Of(weather), Refreshable: true, Secret: oauth.NewSecret(""),
		Generation: 1, SignedInAt: at, AMR: []string{"pwd"}, CreatedAt: at, LastUsedAt: at,
		ExpiresAt: at.Add(30 * 24 * time.Hour), EndsAt: at.Add(90 * 24 * time.Hour)}
	if err := tx.CreateGrant(g); err != nil {
		return err
	}
	code := &oauth.Code{Hash: oauth.Hash(oauth.NewSecret(oauth.CodePrefix)), GrantID: g.ID, RedirectURI: redirectURI,
		ExpiresAt: at.Add(time.Minute), SpentAt: at}
	if err := tx.CreateCode(code); err != nil {
		return err
	}
	return tx.Conclude(audit.Code(client, user, g.ID, resource, weather, false), nil)
}

// step is the state of a connection's flow.
type step struct {
	verifier string
	jar      map[string]string
	post     bool // whether the consent form was sent
	redeem   bool // whether the code was sent to the token endpoint
}

// flow runs the code flow of signed-in people: the authorization request, the consent page, its form, and the
// redemption of the code.
func flow(app party, c *cohort) next {
	var turn atomic.Int64
	steps := make([]step, flows)
	return func(connection int, last *reply) ([]byte, bool, error) {
		s := &steps[connection]
		if last == nil || s.redeem {
			if last != nil && last.status != 200 {
				return nil, false, fmt.Errorf("the token endpoint returned status %d", last.status)
			}
			verifier := rand.Text() + rand.Text()
			*s = step{verifier: verifier,
				jar: map[string]string{"cardea_session": c.sessions[turn.Add(1)%int64(len(c.sessions))]}}
			hash := sha256.Sum256([]byte(verifier))
			return []byte(getRequest("/oauth2/authorize?"+url.Values{
				"response_type": {"code"}, "client_id": {app.ClientID}, "redirect_uri": {redirectURI},
				"scope": {weather}, "resource": {resource}, "state": {verifier[:16]}, "code_challenge_method": {"S256"},
				"code_challenge": {base64.RawURLEncoding.EncodeToString(hash[:])},
			}.Encode(), s.cookies())), last != nil, nil
		}
		for _, pair := range last.cookies {
			name, value, _ := strings.Cut(pair, "=")
			s.jar[name] = value
		}
		to, err := url.Parse(last.location)
		switch {
		case err != nil:
			return nil, false, err
		case last.status == 303 && to.Query().Get("code") != "":
			s.redeem = true
			return []byte(formRequest("/oauth2/token", "",
				url.Values{"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")},
					"redirect_uri": {redirectURI}, "client_id": {app.ClientID}, "code_verifier": {s.verifier},
					"resource": {resource}}.Encode())), false, nil
		case last.status == 303 && !s.post && to.Query().Get("error") == "":
			return []byte(getRequest(to.RequestURI(), s.cookies())), false, nil
		case last.status == 200 && !s.post:
			s.post = true
			path, form, err := fill(string(last.body))
			return []byte(formRequest(path, s.cookies(), form.Encode())), false, err
		}
		return nil, false, fmt.Errorf("the flow ended with status %d %s %.300s", last.status, last.location, last.body)
	}
}

// cookies returns the Cookie header.
func (s *step) cookies() string {
	var pairs []string
	for name, value := range s.jar {
		pairs = append(pairs, name+"="+value)
	}
	return "Cookie: " + strings.Join(pairs, "; ") + "\r\n"
}

// registrations is the number of registrations in a turn. It is small because the server keeps at most ten thousand
// clients that were never used.
const registrations = 1000

// registration registers clients with different names.
func registration() next {
	var count atomic.Int64
	return func(_ int, last *reply) ([]byte, bool, error) {
		if last != nil && last.status != 201 {
			return nil, false, fmt.Errorf("the registration endpoint returned status %d", last.status)
		}
		body, err := json.Marshal(map[string]any{
			"client_name": "Agent " + strconv.FormatInt(count.Add(1), 10), "redirect_uris": []string{redirectURI},
			"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
			"token_endpoint_auth_method": "none", "scope": weather,
		})
		return []byte("POST /oauth2/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: " +
			"application/json\r\nContent-Length: " +
			strconv.Itoa(len(body)) + "\r\n\r\n" + string(body)), last != nil, err
	}
}
