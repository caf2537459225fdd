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
