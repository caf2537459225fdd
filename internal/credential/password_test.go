package credential_test

import (
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
