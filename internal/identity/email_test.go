package identity_test

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
)

func TestEmailKey(t *testing.T) {
	for _, c := range []struct{ name, email, want string }{
		{"plain", "ada@example.com", "ada@example.com"},
		{"case and space", " Ada@Example.COM ", "ada@example.com"},
		{"full width", "ａｄａ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ada@example.com"},
		{"letters of the name", "ÅDA@example.com", "åda@example.com"},
		{"a domain in another alphabet", "ada@Bücher.example", "ada@xn--bcher-kva.example"},
		{"as browsers send it", "ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"},
		{"as some send it", "ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"},
		{"in two forms of the same letters", "ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"},
		{"ß is a letter of its own in a domain", "ada@straße.example", "ada@xn--strae-oqa.example"},
		{"a full stop of another alphabet", "ada@例え。テスト", "ada@xn--r8jz45g.xn--zckzah"},
		{"a domain that is none", "ada@exa mple_!", "ada@exa mple_!"},
		{"ß is ss in a name, so that nobody guesses twice as often", "Straße@example.com", "strasse@example.com"},
		{"a capital ß", "STRA\u1e9eE@example.com", "strasse@example.com"},
		{"a dotless i is another letter", "m\u0131ke@example.com", "m\u0131ke@example.com"},
		{"a dotted I is another letter", "M\u0130KE@example.com", "mi\u0307ke@example.com"},
		{"the sign of Kelvin is a K", "mi\u212ae@example.com", "mike@example.com"},
		{"a long s is an s", "ro\u017fe@example.com", "rose@example.com"},
		{"both forms of sigma", "\u03b1\u03c2@example.com", "\u03b1\u03c3@example.com"},
		{"no domain", "ada", "ada"},
		{"nothing", "", ""},
		{"two", "a@b@Bücher.example", "a@b@xn--bcher-kva.example"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := identity.EmailKey(c.email); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if again := identity.EmailKey(c.want); again != c.want {
				t.Errorf("%q becomes %q", c.want, again)
			}
		})
	}
}

func TestSameMailbox(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"ada@example.com", " ADA@Example.COM ", true},
		{"ada@bücher.example", "Ada@XN--BCHER-KVA.example", true},
		{"ａｄａ@example.com", "ada@example.com", true},
		{"ro\u017fe@example.com", "rose@example.com", true}, // both are written to as rose
		{"straße@example.com", "STRASSE@example.com", false},
		{"stra\u1e9ee@example.com", "straße@example.com", true},
		{"ada@straße.example", "ada@strasse.example", false},
		{"m\u0131ke@example.com", "mike@example.com", false},
		{"M\u0130KE@example.com", "mike@example.com", false},
		{"b\u043eb@example.com", "bob@example.com", false},
		{"bob@ex\u0430mple.com", "bob@example.com", false},
		{"bob@xn--exmple-4nf.com", "bob@example.com", false},
		{"ada", "ada", false},
		{"", "", false},
		{"@example.com", "@example.com", false},
	} {
		if got := identity.SameMailbox(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %t", c.a, c.b, got)
		}
		if got := identity.SameMailbox(c.b, c.a); got != c.want {
			t.Errorf("%q and %q: %t", c.b, c.a, got)
		}
	}
}

func TestOldEmailKey(t *testing.T) {
	for email, want := range map[string]string{
		"Ada@Example.COM": "ada@example.com", "ada@xn--bcher-kva.example": "ada@bücher.example",
		"ada@Bücher.example": "ada@bücher.example", "ada": "ada",
	} {
		if got := identity.OldEmailKey(email); got != want {
			t.Errorf("%q becomes %q, want %q", email, got, want)
		}
	}
}

func TestEmail(t *testing.T) {
	for typed, want := range map[string]string{
		"ada@example.com": "ada@example.com", " Ada@Example.COM ": "Ada@Example.COM",
		"δοκιμή@παράδειγμα.δοκιμή": "δοκιμή@παράδειγμα.δοκιμή", "дом@пример.example": "дом@пример.example",
		"a+b.c@例え.テスト": "a+b.c@例え.テスト", "ada@xn--bcher-kva.example": "ada@xn--bcher-kva.example",
		"ａｄａ＠ｅｘａｍｐｌｅ．ｃｏｍ": "ada@example.com", "ada@localhost": "ada@localhost",
		"ada@bu\u0308cher.example": "ada@bücher.example", "straße@example.com": "straße@example.com",
		"": "", "ada": "", "@example.com": "", "ada@": "", "a@b@example.com": "",
		"Ada <ada@example.com>": "", "ada@exa mple.com": "", "ada@example..com": "",
		"ada@-example.com": "", "ada@[127.0.0.1]": "", "ada\r\nBcc:eve@example.com": "",
		"ada\u200b@example.com": "", "ada\u202e@example.com": "", "ad\x00a@example.com": "",
		"\u0430da@example.com": "", // a Cyrillic letter among Latin ones
		"ada@ex\u0430mple.com": "", "ada@xn--exmple-4nf.com": "", "ad\u03b1@example.com": "",
		"m\u0131ke@example.com": "m\u0131ke@example.com", // a Turkish letter, and another mailbox than mike
		"mi\u212ae@example.com": "miKe@example.com", "ro\u017fe@example.com": "rose@example.com",
		"ada@ｅｘａｍｐｌｅ.com": "ada@example.com",
	} {
		got, ok := identity.Email(typed)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, want %q", typed, got, ok, want)
		}
		if again, ok := identity.Email(got); ok &&
			(again != got || identity.EmailKey(got) != identity.EmailKey(typed)) {
			t.Errorf("%q becomes %q, whose key is another", got, again)
		}
	}
}
