package web_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

const formType = "application/x-www-form-urlencoded"

func post(kind, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	return r
}

func TestForm(t *testing.T) {
	for _, c := range []struct {
		name, kind, body string
		want             url.Values
	}{
		{"parameters", formType, "a=1&b=x+y%20z&c=%C3%A9", url.Values{"a": {"1"}, "b": {"x y z"}, "c": {"é"}}},
		{"with charset", formType + "; charset=UTF-8", "a=1", url.Values{"a": {"1"}}},
		{"among other types", "application/json, " + formType, "a=1", url.Values{"a": {"1"}}},
		{"among other types, in front", formType + "; charset=utf-8,application/json", "a=1", url.Values{"a": {"1"}}},
		{"twice", formType + ", " + formType, "a=1", url.Values{"a": {"1"}}},
		{"empty counts as absent", formType, "a=&b&c=1&resource=&resource=x",
			url.Values{"c": {"1"}, "resource": {"x"}}},
		{"an empty one beside another", formType, "a=&a=1", url.Values{"a": {"1"}}},
		{"nothing", formType, "", url.Values{}},
		{"repeatable", formType, "resource=1&resource=2", url.Values{"resource": {"1", "2"}}},
		{"repeatable, all empty", formType, "resource=&resource=", url.Values{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := web.Form(post(c.kind, c.body), "resource")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	for _, c := range []struct {
		name, kind, body string
		status           int
	}{
		{"JSON", "application/json", `{"a":1}`, 400},
		{"no type", "", "a=1", 400},
		{"a broken type", "application/x-www-form-urlencoded; x", "a=1", 400},
		{"multipart", "multipart/form-data; boundary=x", "a=1", 400},
		{"another charset", formType + "; charset=utf-7", "a=1", 400},
		{"another charset among others", "application/json, " + formType + "; charset=utf-7, " + formType, "a=1", 400},
		{"a type that only looks like it", "application/json; x=" + formType, "a=1", 400},
		{"a longer type", formType + "x, x" + formType, "a=1", 400},
		{"a parameter twice", formType, "a=1&a=1", 400},
		{"an escaped name is the same name", formType, "client_id=1&client%5Fid=2", 400},
		{"semicolons", formType, "a=1;b=2", 400},
		{"a broken escape", formType, "a=%zz", 400},
		{"a cut escape", formType, "a=%2", 400},
		{"not UTF-8", formType, "a=%ff", 400},
		{"a name that is not UTF-8", formType, "%ff=1", 400},
		{"LG-26 NUL", formType, "password=a%00b", 400},
		{"LG-26 1 MB", formType, "password=" + strings.Repeat("x", 1<<20), 400},
		{"1001 parameters", formType, strings.Repeat("a&", 1000) + "a", 400},
	} {
		t.Run("refused: "+c.name, func(t *testing.T) {
			_, err := web.Form(post(c.kind, c.body), "resource")
			refusal, ok := oauth.AsRefusal(err)
			if !ok || refusal.Code != oauth.InvalidRequest || refusal.Status() != c.status {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("in a second header", func(t *testing.T) {
		r := post("application/json", "a=1")
		r.Header.Add("Content-Type", formType)
		if got, err := web.Form(r); err != nil || got.Get("a") != "1" {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("refused: an incomplete body", func(t *testing.T) {
		r := post(formType, "")
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("a=1"), broken{}))
		if _, err := web.Form(r); !isRefusal(err) {
			t.Errorf("%v", err)
		}
	})
	t.Run("the query is not part of the form", func(t *testing.T) {
		r := post(formType, "a=1")
		r.URL.RawQuery = "a=2&b=3"
		if got, err := web.Form(r); err != nil || len(got) != 1 || got.Get("a") != "1" {
			t.Errorf("%v, %v", got, err)
		}
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func isRefusal(err error) bool {
	_, ok := oauth.AsRefusal(err)
	return ok
}

func TestQuery(t *testing.T) {
	t.Run("AZ-26 a parameter twice", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/?client_id=a&scope=x&client_id=b", nil)
		_, err := web.Query(r)
		if refusal, ok := oauth.AsRefusal(err); !ok || !strings.Contains(refusal.Description, `"client_id"`) {
			t.Errorf("%v", err)
		}
		got, err := web.QueryAsItIs(r)
		if d := cmp.Diff(url.Values{"client_id": {"a", "b"}, "scope": {"x"}}, got); d != "" || err != nil {
			t.Error(d, err)
		}
	})
	t.Run("AZ-36 state is returned byte for byte", func(t *testing.T) {
		var state strings.Builder
		for c := ' '; c <= '~'; c++ {
			state.WriteRune(c)
		}
		state.WriteString("é\U0001F511")
		r := httptest.NewRequest(http.MethodGet, "/?state="+url.QueryEscape(state.String()), nil)
		if got, err := web.Query(r); err != nil || got.Get("state") != state.String() {
			t.Errorf("%q, %v", got.Get("state"), err)
		}
	})
}

func FuzzForm(f *testing.F) {
	for _, s := range []string{
		"a=1&b=2", "a=1&a=2", "a=%zz", "a=1;b=2", "%00=1", "resource=a&resource=", "=&=", "&&&",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values, err := web.Form(post(formType, text), "resource")
		if err != nil && !isRefusal(err) {
			t.Fatalf("an invalid form is a fault: %v", err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = text
		query, queryErr := web.Query(r, "resource")
		if len(text) <= 64<<10 && (cmp.Diff(values, query) != "" || (err == nil) != (queryErr == nil)) {
			t.Fatalf("form and query disagree: %v, %v", err, queryErr)
		}
		for name, all := range values {
			if len(all) == 0 || len(all) > 1 && name != "resource" {
				t.Fatalf("%q has %d values", name, len(all))
			}
			for _, value := range all {
				if value == "" || !utf8.ValidString(value) || strings.Contains(name+value, "\x00") {
					t.Fatalf("%q=%q", name, value)
				}
			}
		}
	})
}

func TestEncodeQuery(t *testing.T) {
	values := url.Values{"error_description": {"a b"}, "state": {"c+d e%20f&g"}}
	const want = "error_description=a%20b&state=c%2Bd%20e%2520f%26g"
	got := web.EncodeQuery(values)
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if back, err := url.ParseQuery(got); err != nil || !cmp.Equal(back, values) {
		t.Errorf("it is read as %v: %v", back, err)
	}
}
