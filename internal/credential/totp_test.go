package credential_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/credential"
)

// The test vectors of RFC 6238, of which the last six digits are ours.
func TestTOTPVectors(t *testing.T) {
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471",
		1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := credential.TOTPCode([]byte("12345678901234567890"), at/30); got != want[2:] {
			t.Errorf("at %d the code is %s, want %s", at, got, want[2:])
		}
	}
}
