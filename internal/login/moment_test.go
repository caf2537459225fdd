package login_test

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/internal/web/webtest"
)

// A sign-in reads the account and then hashes the password, which takes time. An operator's change in between takes
// effect.
func TestChangedWhileThePasswordIsHashed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		hash := func(password string) string {
			t.Helper()
			hash, err := credential.HashPassword(t.Context(), password)
			if err != nil {
				t.Fatal(err)
			}
			return hash
		}
		good, other := hash(servertest.Password), hash("the new password")
		b64, salt := base64.RawStdEncoding.EncodeToString, []byte("a salt of its own")
		cheap := "$argon2id$v=19$m=64,t=1,p=1$" + b64(salt) + "$" +
			b64(argon2.IDKey([]byte(servertest.Password), salt, 1, 64, 1, 32))
		for name, change := range map[string]func(tx *store.Tx, id string) error{
			"nothing":           func(*store.Tx, string) error { return nil },
			"S4 reset-password": func(tx *store.Tx, id string) error { return tx.SetPassword(id, other) },
			"S4 disable":        func(tx *store.Tx, id string) error { return tx.DisableUser(id) },
			"S4 delete":         func(tx *store.Tx, id string) error { return tx.DeleteUser(id) },
			"disabled, and enabled": func(tx *store.Tx,
				id string) error {
				return firstOf(tx.DisableUser(id), tx.EnableUser(id))
			},
		} {
			for cost, hash := range map[string]string{"": good, ", a cheap hash, which is replaced at sign-in": cheap} {
				t.Run(name+cost, func(t *testing.T) {
					ada := &identity.User{ID: oauth.NewID("usr_"), Email: oauth.NewID("") + "@example.com",
						PasswordHash: hash, CreatedAt: db.Now()}
					update(t, db, func(tx *store.Tx) error { return tx.CreateUser(ada) })
					changed := false
					// When its failures are looked up, the account has been read already.
					delays := limit.Delays{Free: 100, First: time.Second, Longest: time.Second, Forget: time.Hour}
					accounts := limit.NewBackoff(delays, 10, func() time.Time {
						if !changed {
							changed = true
							update(t, db, func(tx *store.Tx) error { return change(tx, ada.ID) })
						}
						return clock.Now()
					})
					e := endpoint(db, accounts)
					cookies := post(t, e, ada.Email, servertest.Password)
					wants := name == "nothing" || name == "disabled, and enabled"
					if got := cookies["__Host-cardea_session"] != ""; got != wants || !changed {
						t.Errorf("signed in: %v, want %v", got, wants)
					}
					view(t, db, func(tx *store.Tx) error {
						user, err := tx.User(ada.ID)
						if name == "S4 reset-password" && user.PasswordHash != other {
							t.Error("the old password was restored")
						}
						if name == "S4 delete" {
							return nil
						}
						return err
					})
				})
			}
		}
	})
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// endpoint returns a sign-in page on db.
func endpoint(db *store.DB, accounts *limit.Backoff) *login.Endpoint {
	desk := &interaction.Desk{
		Sessions: &interaction.Sessions{DB: db, Pages: webtest.Pages, Idle: time.Hour, Max: time.Hour},
		Clients:  &client.Directory{DB: db},
		Sealer:   interaction.NewSealer([]byte("0123456789abcdef0123456789abcdef")),
		Issuer:   "https://auth.example.com",
	}
	return &login.Endpoint{DB: db, Pages: webtest.Pages, Desk: desk, Methods: []string{"password"}, Next: "/consent",
		Accounts: accounts}
}

// post signs in and returns the cookies of the response.
func post(t *testing.T, e *login.Endpoint, email, password string) map[string]string {
	t.Helper()
	browser := webtest.Pages.Browser(httptest.NewRequest(http.MethodGet, "/login", nil))
	form := url.Values{"email": {email}, "password": {password}, "csrf": {webtest.Pages.Token(browser, "sign in")}}
	r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.AddCookie(browser.Cookie())
	w := httptest.NewRecorder()
	web.NewRouter(webtest.Pages, e.Routes()...).ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Errorf("status is %d, want less than 500: %s", w.Code, w.Body)
	}
	cookies := map[string]string{}
	for _, c := range w.Result().Cookies() {
		cookies[c.Name] = c.Value
	}
	return cookies
}

func update(t *testing.T, db *store.DB, change func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(context.Background(), change); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, db *store.DB, look func(*store.Tx) error) {
	t.Helper()
	if err := db.View(context.Background(), look); err != nil {
		t.Fatal(err)
	}
}
