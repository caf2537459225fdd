package credential_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/credential"
	"github.com/cardea-auth/cardea/internal/oauth"
)

func TestCommonPasswords(t *testing.T) {
	for password, common := range map[string]bool{
		"password": true, "PassWord": true, "12345678": true, "qwertyuiop": true, "!qaz2wsx": true, "11111111": true,
		"correct horse battery staple": false, "password of mine": false, "permission": false, "the software is": false,
	} {
		_, err := credential.HashPassword(t.Context(), password)
		if got := oauth.IsRefusal(err); got != common || common && !strings.Contains(err.Error(), "many people use") {
			t.Errorf("%q: refused is %t, want %t: %v", password, got, common, err)
		}
	}
}

// FL-24: in a storm of sign-ins a few passwords are hashed at a time, some wait, and the others are told to try again,
// so that tokens are issued meanwhile.
func TestStorm(t *testing.T) {
	for range credential.Turns {
		leave, err := credential.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
	const most = 64
	ctx, give := context.WithCancel(t.Context())
	gone := make(chan error)
	for range most {
		go func() {
			_, err := credential.HashPassword(ctx, "a good long password")
			gone <- err
		}()
	}
	for credential.Waiting() < most {
		runtime.Gosched()
	}
	if _, err := credential.HashPassword(t.Context(), "a good long password"); !errors.Is(err, credential.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	give()
	for range most {
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("one that left: %v", err)
		}
	}
}
