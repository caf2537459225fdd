package interaction_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
)

var sealer = interaction.NewSealer([]byte("0123456789abcdef0123456789abcdef"))

func TestSealer(t *testing.T) {
	const want = "\x00é\U0001F511\xff req_1"
	sealed, err := sealer.Seal("request", []byte(want))
	if err != nil {
		t.Fatal(err)
	}
	t.Run("opens for its purpose", func(t *testing.T) {
		if got, err := sealer.Open("request", sealed); string(got) != want || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("never looks the same, and hides what is in it", func(t *testing.T) {
		again, err := sealer.Seal("request", []byte(want))
		if err != nil || again == sealed || strings.Contains(again, "req_1") {
			t.Errorf("%s, %v", again, err)
		}
	})
	refused := func(t *testing.T, s *interaction.Sealer, purpose, text string) {
		t.Helper()
		if got, err := s.Open(purpose, text); !oauth.IsRefusal(err) || got != nil {
			t.Errorf("%v, %v", err, got)
		}
	}
	t.Run("not for another purpose", func(t *testing.T) { refused(t, sealer, "other", sealed) })
	t.Run("not under another key", func(t *testing.T) {
		refused(t, interaction.NewSealer([]byte(strings.Repeat("x", 32))), "request", sealed)
	})
	t.Run("not when one character is another", func(t *testing.T) {
		for i := range sealed {
			other := byte('A')
			if sealed[i] == other {
				other = 'B'
			}
			refused(t, sealer, "request", sealed[:i]+string(other)+sealed[i+1:])
		}
	})
	t.Run("not when cut or longer", func(t *testing.T) {
		for i := range sealed {
			refused(t, sealer, "request", sealed[:i])
		}
		refused(t, sealer, "request", sealed+"A")
		refused(t, sealer, "request", sealed+"=")
		refused(t, sealer, "request", sealed+"\n")
		refused(t, sealer, "request", strings.Repeat("A", 1<<20))
	})
}

func FuzzSealerOpen(f *testing.F) {
	sealed, err := sealer.Seal("request", []byte("x"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed[:20])
	f.Add("")
	f.Add("=")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := sealer.Open("request", text); !oauth.IsRefusal(err) && text != sealed {
			t.Fatalf("Open(%q) = %v", text, err)
		}
	})
}
