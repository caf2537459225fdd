package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// get sends a GET for target through a Front and returns the response and the log.
func get(h http.Handler, target string) (*httptest.ResponseRecorder, string) {
	return send(h, httptest.NewRequest(http.MethodGet, target, nil))
}

func send(h http.Handler, r *http.Request) (*httptest.ResponseRecorder, string) {
	var log bytes.Buffer
	w := httptest.NewRecorder()
	front(&log).Wrap(h).ServeHTTP(w, r)
	return w, log.String()
}

func front(log *bytes.Buffer) *web.Front {
	return &web.Front{
		Logger: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
}

func jsonOf(answer any, err error) http.Handler {
	return web.JSON(func(*http.Request) (any, error) { return answer, err })
}

var pages = &web.Pages{
	Secure:  true,
	CSRFKey: []byte("fedcba9876543210fedcba9876543210"),
	Refuse:  func(_ *http.Request, _ audit.Event, err error) error { return err },
}

func pageOf(answer web.Answer, err error) http.Handler {
	return pages.HTML(func(*http.Request) (web.Answer, error) { return answer, err })
}

func wantHeader(t *testing.T, w *httptest.ResponseRecorder, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := strings.Join(w.Result().Header.Values(name), " | "); got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Run("HT-02 a value", func(t *testing.T) {
		w, _ := get(jsonOf(map[string]string{"scope": "a<b>&c"}, nil), "/")
		if w.Code != http.StatusOK || w.Body.String() != `{"scope":"a<b>&c"}`+"\n" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		wantHeader(t, w, map[string]string{
			"Content-Type":           "application/json",
			"Cache-Control":          "no-store",
			"Pragma":                 "no-cache",
			"X-Content-Type-Options": "nosniff",
			"Content-Length":         fmt.Sprint(w.Body.Len()),
		})
	})
	t.Run("a reply", func(t *testing.T) {
		w, _ := get(jsonOf(web.Reply{
			Status: http.StatusCreated,
			Header: http.Header{"Cache-Control": {"public, max-age=300"}},
			Body:   json.RawMessage(`{"keys": []}`),
		}, nil), "/")
		if w.Code != http.StatusCreated || w.Body.String() != `{"keys": []}` {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		wantHeader(t, w, map[string]string{"Cache-Control": "public, max-age=300", "Pragma": ""})
	})
	t.Run("an empty reply", func(t *testing.T) {
		w, _ := get(jsonOf(web.Reply{}, nil), "/")
		if w.Code != http.StatusOK || w.Body.Len() != 0 {
			t.Errorf("%d %q", w.Code, w.Body)
		}
		wantHeader(t, w, map[string]string{"Content-Type": ""})
	})
	t.Run("a value that does not encode is a fault", func(t *testing.T) {
		w, log := get(jsonOf(func() {}, nil), "/")
		if w.Code != http.StatusInternalServerError || !strings.Contains(log, "encode") {
			t.Errorf("%d, log %s", w.Code, log)
		}
	})
}

func TestRefusals(t *testing.T) {
	type answer struct {
		Status             int
		Body               string
		Challenge, Retry   string
		CacheControl, Kind string
	}
	for _, c := range []struct {
		name string
		err  error
		want answer
	}{
		{
			"invalid_request", oauth.Refuse(oauth.InvalidRequest, "code is missing"),
			answer{400, `{"error":"invalid_request","error_description":"code is missing"}`, "", "", "no-store",
				"application/json"},
		},
		{
			"wrapped", fmt.Errorf("token: %w", oauth.Refuse(oauth.InvalidGrant, "x")),
			answer{400, `{"error":"invalid_grant","error_description":"x"}`, "", "", "no-store", "application/json"},
		},
		{
			"invalid_client by Basic", oauth.RefuseClient(true, "wrong"),
			answer{401, `{"error":"invalid_client","error_description":"wrong"}`, `Basic realm="cardea"`, "",
				"no-store", "application/json"},
		},
		{
			"invalid_client by body", oauth.RefuseClient(false, "wrong"),
			answer{401, `{"error":"invalid_client","error_description":"wrong"}`, "", "", "no-store",
				"application/json"},
		},
		{
			"too many requests", oauth.RefuseForNow(1500*time.Millisecond, "wait"),
			answer{429, `{"error":"too_many_requests","error_description":"wait"}`, "", "2", "no-store",
				"application/json"},
		},
		{
			"too many requests, for no time", oauth.RefuseForNow(0, "wait"),
			answer{429, `{"error":"too_many_requests","error_description":"wait"}`, "", "1", "no-store",
				"application/json"},
		},
		{
			"HT-22 a stranger's text stays within the alphabet of RFC 6749 §5.2",
			oauth.Refuse(oauth.InvalidRequest, "bad \"x\\y\" \r\nSet-Cookie: a=b é\u202e\x00"),
			answer{400,
				`{"error":"invalid_request","error_description":"bad 'x%5Cy'   Set-Cookie: a=b %C3%A9%E2%80%AE%00"}`,
				"", "", "no-store", "application/json"},
		},
		{
			"the database is unavailable", fmt.Errorf("store: %w", oauth.ErrUnavailable),
			answer{503, `{"error":"temporarily_unavailable"}`, "", "5", "no-store", "application/json"},
		},
		{
			"FL-10 too late", fmt.Errorf("store: %w", context.DeadlineExceeded),
			answer{503, `{"error":"temporarily_unavailable"}`, "", "5", "no-store", "application/json"},
		},
		{
			"AD-21 a fault tells nothing", errors.New("sql: SELECT secret FROM /var/lib"),
			answer{500, `{"error":"server_error"}`, "", "", "no-store", "application/json"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := get(jsonOf(nil, c.err), "/")
			got := answer{
				w.Code, strings.TrimSpace(w.Body.String()), w.Header().Get("WWW-Authenticate"),
				w.Header().Get("Retry-After"), w.Header().Get("Cache-Control"), w.Header().Get("Content-Type"),
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	boom := errors.New("sql: disk is full")
	for name, h := range map[string]http.Handler{"JSON": jsonOf(nil, boom), "HTML": pageOf(nil, boom)} {
		t.Run("a fault is logged with its details and the request id: "+name, func(t *testing.T) {
			w, log := get(h, "/oauth2/token?code=cardea_ac_secret")
			if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "disk") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			line := logLine(t, log, "fault")
			if line["error"] != boom.Error() || line["request_id"] != w.Header().Get("X-Request-Id") ||
				line["level"] != "ERROR" {
				t.Errorf("log: %v", line)
			}
			if strings.Contains(log, "cardea_ac_secret") {
				t.Error("the query is in the log")
			}
		})
	}
	t.Run("a client that disconnected is not an error", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w, log := send(jsonOf(nil, context.Canceled), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
		if line := logLine(t, log, "fault"); line["level"] != "DEBUG" || w.Code != http.StatusBadRequest {
			t.Errorf("%d, log: %v", w.Code, line)
		}
	})
	for name, c := range map[string]struct {
		handler http.Handler
		body    string
	}{
		"JSON": {web.JSON(func(*http.Request) (any, error) { panic("secret canary") }), `{"error":"server_error"}`},
		"HTML": {pages.HTML(func(*http.Request) (web.Answer, error) { panic("secret canary") }),
			"Something went wrong"},
		"other": {http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret canary") }),
			`{"error":"server_error"}`},
	} {
		t.Run("HT-16 a panic: "+name, func(t *testing.T) {
			w, log := get(c.handler, "/")
			if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), c.body) ||
				strings.Contains(w.Body.String(), "canary") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if line := logLine(t, log, "fault"); !strings.Contains(fmt.Sprint(line["error"]), "secret canary") ||
				!strings.Contains(fmt.Sprint(line["error"]), "web_test.go") {
				t.Errorf("log: %v", line)
			}
			if line := logLine(t, log, "request"); line["status"] != 500.0 {
				t.Errorf("log: %v", line)
			}
		})
	}
	t.Run("HT-16 the process continues, and a partial response does not look complete", func(t *testing.T) {
		var log bytes.Buffer
		mux := http.NewServeMux()
		mux.HandleFunc("/torn", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			panic("in the middle")
		})
		mux.Handle("/whole", jsonOf("fine", nil))
		s := httptest.NewServer(front(&log).Wrap(mux))
		defer s.Close()
		if _, err := fetch(t, s, "/torn"); err == nil {
			t.Error("a partial response was read without an error")
		}
		if body, err := fetch(t, s, "/whole"); err != nil || body != "\"fine\"\n" {
			t.Errorf("%q, %v", body, err)
		}
		s.Close() // waits until the log is complete
		if line := logLine(t, log.String(), "fault"); !strings.Contains(fmt.Sprint(line["error"]), "in the middle") {
			t.Errorf("log: %v", line)
		}
	})
}

func fetch(t *testing.T, s *httptest.Server, path string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Client().Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	return b.String(), err
}

// logLine returns the only line of log with the message.
func logLine(t *testing.T, log, message string) map[string]any {
	t.Helper()
	var found []map[string]any
	for text := range strings.Lines(log) {
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("log line %q: %v", text, err)
		}
		if line["msg"] == message {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d lines %q in the log:\n%s", len(found), message, log)
	}
	return found[0]
}

func TestUnfitRequests(t *testing.T) {
	reached := web.JSON(func(*http.Request) (any, error) { return "reached", nil })
	page := pageOf(page("x"), nil)
	for name, h := range map[string]http.Handler{"JSON": reached, "HTML": page} {
		t.Run("HT-12 a URI of 64 KB: "+name, func(t *testing.T) {
			if w, _ := get(h, "/?state="+strings.Repeat("x", 64<<10)); w.Code != http.StatusRequestURITooLong {
				t.Errorf("%d", w.Code)
			}
		})
		t.Run("AZ-60 a URI of 16 KB: "+name, func(t *testing.T) {
			if w, _ := get(h, "/?state="+strings.Repeat("x", 16<<10-8)); w.Code != http.StatusOK {
				t.Errorf("%d", w.Code)
			}
		})
		for n, want := range map[int]int{
			256:    http.StatusOK,
			257:    http.StatusRequestHeaderFieldsTooLarge,
			10_000: http.StatusRequestHeaderFieldsTooLarge,
		} {
			t.Run(fmt.Sprintf("HT-12 %d header fields: %s", n, name), func(t *testing.T) {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				for i := range n {
					r.Header.Add(fmt.Sprint("X-", i/2), "") // each twice
				}
				if w, _ := send(h, r); w.Code != want {
					t.Errorf("%d, want %d", w.Code, want)
				}
			})
		}
		for n, want := range map[int]int{1000: http.StatusOK, 10_000: http.StatusRequestHeaderFieldsTooLarge} {
			t.Run(fmt.Sprintf("LG-17 %d cookies: %s", n, name), func(t *testing.T) {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header["Cookie"] = slices.Repeat([]string{strings.Repeat("a=1; ", n/2)}, 2)
				if w, _ := send(h, r); w.Code != want {
					t.Errorf("%d, want %d", w.Code, want)
				}
			})
		}
		t.Run("HT-14 an absolute URI: "+name, func(t *testing.T) {
			w, _ := get(h, "http://evil.example/")
			if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String(), "evil.example") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
		t.Run("an encoded body: "+name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x"))
			r.Header.Set("Content-Encoding", "gzip")
			if w, _ := send(h, r); w.Code != http.StatusUnsupportedMediaType {
				t.Errorf("%d", w.Code)
			}
		})
	}
}

func TestErrorDescription(t *testing.T) {
	for text, want := range map[string]string{
		"plain, with 100% of it":                "plain, with 100% of it",
		"a \"b\" c\\d\r\n\t":                    "a 'b' c%5Cd   ",
		"caf\u00e9, \u65e5\u672c":               "caf%C3%A9, %E6%97%A5%E6%9C%AC",
		"\u201cso\u201d \u2013 it\u2019s\u2026": "'so' - it's...",
		"\x00\x7f\xff":                          "%00%7F%FF",
		"http://localho\u017ft/cb":              "http://localho%C5%BFt/cb",
	} {
		if got := web.ErrorDescription(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestErrorsOutsideASCII(t *testing.T) {
	err := oauth.Refuse(oauth.InvalidScope, "the scope %q is not known", "caf\u00e9")
	w, _ := get(jsonOf(nil, err), "/")
	want := `{"error":"invalid_scope","error_description":"the scope 'caf%C3%A9' is not known"}` + "\n"
	if w.Body.String() != want {
		t.Errorf("JSON: %s, want %s", w.Body, want)
	}
	w, _ = get(pageOf(nil, err), "/")
	if !strings.Contains(w.Body.String(), "caf\u00e9") {
		t.Errorf("the page: %s", w.Body)
	}
	w, _ = get(pageOf(nil, oauth.Refuse(oauth.InvalidRequest, "\u00e9clair is not a method")), "/")
	if !strings.Contains(w.Body.String(), "\u00c9clair is not a method.") {
		t.Errorf("the page: %s", w.Body)
	}
}
