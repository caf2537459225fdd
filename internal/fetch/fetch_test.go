package fetch_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/fetch"
)

const there = "https://client.example/c"

// CM-33: every test runs in an environment with a proxy that does not exist.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		if err := os.Setenv(name, "http://127.0.0.1:1"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func TestGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := newInternet(t)
		web.site("client.example", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "Application/JSON; charset=utf-8")
			w.Header().Set("Cache-Control", "max-age=3600")
			fmt.Fprint(w, r.URL.RequestURI())
		})
		now := time.Now()
		d, err := web.client(false).Get(t.Context(), "https://client.example/a%2Fb/?c=d", fetch.KeySet)
		if err != nil {
			t.Fatal(err)
		}
		want := &fetch.Document{
			Body: []byte("/a%2Fb/?c=d"), MediaType: "application/json", FetchedAt: now, FreshUntil: now.Add(time.Hour),
		}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("document (-want +got):\n%s", diff)
		}
	})
}

func TestGetLoopback(t *testing.T) {
	for _, tt := range []struct{ url, address string }{
		{"http://localhost/c", "127.0.0.1:80"},
		{"http://localhost:8081/c", "[::1]:8081"},
		{"http://127.0.0.1:8081/c", "127.0.0.1:8081"},
		{"http://127.1.2.3:8081/c", "127.1.2.3:8081"},
		{"http://[::1]:8081/c", "[::1]:8081"},
	} {
		t.Run(tt.url, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := newInternet(t)
				web.listen(tt.address, answer(200, "application/json", "{}"), nil)
				if _, err := web.client(true).Get(t.Context(), tt.url, fetch.Metadata); err != nil {
					t.Error(err)
				}
				if web.lookups != 0 {
					t.Error("a name server was asked")
				}
				web.dials()
				_, err := web.client(false).Get(t.Context(), tt.url, fetch.Metadata)
				if !errors.Is(err, fetch.ErrNotAllowed) {
					t.Errorf("without AllowLoopback: got %v, want ErrNotAllowed", err)
				}
				if dialled := web.dials(); dialled != nil {
					t.Errorf("without AllowLoopback: dialled %v", dialled)
				}
			})
		})
	}
	t.Run("failures are told at once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			_, err := newInternet(t).client(true).Get(t.Context(), "http://localhost:1/c", fetch.Metadata)
			if took := time.Since(began); !errors.Is(err, fetch.ErrUnavailable) || took != 0 {
				t.Errorf("got %v after %v, want ErrUnavailable at once", err, took)
			}
		})
	})
	t.Run("https is verified there too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			web.listen("127.0.0.1:443", answer(200, "application/json", "{}"),
				&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "localhost"})}})
			if _, err := web.client(true).Get(t.Context(), "https://localhost/c", fetch.Metadata); err != nil {
				t.Errorf("localhost: %v", err)
			}
			_, err := web.client(true).Get(t.Context(), "https://127.0.0.1/c", fetch.Metadata)
			if !errors.Is(err, fetch.ErrUnavailable) {
				t.Errorf("127.0.0.1: got %v, want ErrUnavailable", err)
			}
		})
	})
}

// A response that is not one complete document of the kind is refused.
func TestAnswers(t *testing.T) {
	const limit = 5 << 10
	json := func(n int) string { return `"` + strings.Repeat("a", n-2) + `"` }
	typed := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			h(w, r)
		}
	}
	status := func(code int) http.HandlerFunc {
		return typed(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			if code != 204 && code != 304 {
				fmt.Fprint(w, "{}")
			}
		})
	}
	redirect := func(code int, to string) http.HandlerFunc {
		return typed(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(code)
			fmt.Fprint(w, "{}")
		})
	}
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			fmt.Fprint(conn, text)
			conn.Close()
		}
	}
	type test struct {
		name    string
		handler http.HandlerFunc
		kind    fetch.Kind
		want    string // in the error; empty: a document
	}
	tests := []test{
		{"plain", answer(200, "application/json", "{}"), fetch.Metadata, ""},
		{"CM-12 to the same host", redirect(302, "/d"), fetch.Metadata, "status 302"},
		{"CM-12 to another host", redirect(302, "https://other.example/c"), fetch.Metadata, "status 302"},
		{"CM-12 to the inside", redirect(302, "http://169.254.169.254/"), fetch.Metadata, "status 302"},
		{"CM-14 5 KB", answer(200, "application/json", json(limit)), fetch.Metadata, ""},
		{"CM-14 5 KB + 1", answer(200, "application/json", json(limit+1)), fetch.Metadata, "longer than 5120 bytes"},
		{"CM-14 5 MB", answer(200, "application/json", json(5<<20)), fetch.Metadata, "longer than 5120 bytes"},
		{"CM-14 5 KB without Content-Length",
			raw("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json(limit)), fetch.Metadata, ""},
		{"CM-14 5 KB + 1 without Content-Length",
			raw("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json(limit+1)), fetch.Metadata,
			"longer than 5120 bytes"},
		{"CM-14 Content-Length too small", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
			"2\r\n\r\n{}" + json(limit)), fetch.Metadata, ""},
		{"CM-14 Content-Length too large", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
			"20\r\n\r\n{}"), fetch.Metadata, "ended early"},
		{"CM-14 Content-Length that is a lie", raw("HTTP/1.1 200 OK\r\nContent-Type: " +
			"application/json\r\nContent-Length: 9999999999\r\n\r\n{}"), fetch.Metadata, "longer than 5120 bytes"},
		{"CM-14 two Content-Lengths", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " +
			"2\r\nContent-Length: 3\r\n\r\n{}"), fetch.Metadata, "not respond with HTTP"},
		{"CM-14 gzip bomb", typed(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, "\x1f\x8b\x08")
		}), fetch.Metadata, "Content-Encoding"},
		{"CM-16 HTML with JSON", answer(200, "text/html", "{}"), fetch.Metadata, "Content-Type"},
		{"CM-16 text", answer(200, "text/plain", "{}"), fetch.Metadata, "Content-Type"},
		{"CM-16 no type", answer(200, "", "{}"), fetch.Metadata, "Content-Type"},
		{"CM-16 broken type", answer(200, "application/json; charset", "{}"), fetch.Metadata, "Content-Type"},
		{"CM-16 text/x+json", answer(200, "text/x+json", "{}"), fetch.Metadata, "Content-Type"},
		{"CM-16 application/x+json", answer(200, "application/x+json", "{}"), fetch.Metadata, ""},
		{"CM-16 key set", answer(200, "application/jwk-set+json", "{}"), fetch.KeySet, ""},
		{"a key set of 64 KB", answer(200, "application/json", json(64<<10)), fetch.KeySet, ""},
		{"a key set of 64 KB + 1", answer(200, "application/json", json(64<<10+1)), fetch.KeySet,
			"longer than 65536 bytes"},
		{"CM-34 a header of 1 MB", typed(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("a", 1<<20))
		}), fetch.Metadata, "not respond with HTTP"},
		{"CM-34 many headers",
			raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + strings.Repeat("A: b\r\n", 10_000) +
				"\r\n{}"), fetch.Metadata, "not respond with HTTP"},
		{"CM-34 a few 1xx", raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 4) + "HTTP/1.1 200 " +
			"OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"), fetch.Metadata, ""},
		{"CM-34 1xx for ever", func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			for err == nil {
				_, err = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n")
			}
		}, fetch.Metadata, "not respond with HTTP"},
		{"CM-34 HTTP/2 from the start",
			raw("\x00\x00\x00\x04\x00\x00\x00\x00\x00" +
				strings.Repeat("\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678", 1000)), fetch.Metadata,
			"not respond with HTTP"},
		{"CM-34 another protocol",
			raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), fetch.Metadata,
			"status 101"},
		{"a banner that is not quoted", raw("SSH-2.0-secret\r\n"), fetch.Metadata, "not respond with HTTP"},
		{"nothing", raw(""), fetch.Metadata, "not respond with HTTP"},
		{"CM-41 picture", answer(200, "image/png", "\x89PNG"), fetch.Logo, ""},
		{"CM-41 SVG", answer(200, "image/svg+xml", "<svg><script/></svg>"), fetch.Logo, "Content-Type"},
		{"CM-41 HTML", answer(200, "text/html", "GIF89a<script>"), fetch.Logo, "Content-Type"},
		{"CM-41 50 MB", answer(200, "image/png", strings.Repeat("a", 50<<20)), fetch.Logo, "longer than 262144 bytes"},
		{"CM-41 redirect", redirect(302, "https://other.example/logo.png"), fetch.Logo, "status 302"},
	}
	for _, code := range []int{201, 203, 204, 206, 300, 301, 303, 304, 307, 308, 400, 401, 404, 410, 500, 503} {
		id := "CM-13"
		if code == 301 || code == 303 || code == 307 || code == 308 {
			id = "CM-12"
		}
		tests = append(tests,
			test{fmt.Sprintf("%s %d", id, code), status(code), fetch.Metadata, fmt.Sprintf("status %d", code)})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := newInternet(t)
				web.listen("127.0.0.1:80", tt.handler, nil)
				began := time.Now()
				_, err := web.client(true).Get(t.Context(), "http://127.0.0.1/c", tt.kind)
				switch {
				case tt.want == "":
					if err != nil {
						t.Error(err)
					}
				case !errors.Is(err, fetch.ErrUnavailable):
					t.Errorf("got %v, want ErrUnavailable", err)
				case !strings.Contains(err.Error(), tt.want):
					t.Errorf("got %q, want it to say %q", err, tt.want)
				case strings.Contains(err.Error(), "secret"):
					t.Errorf("%q quotes the response", err)
				}
				if time.Since(began) != 0 {
					t.Error("only the timeout ended the fetch")
				}
				if diff := cmp.Diff([]string{"127.0.0.1:80"}, web.dials()); diff != "" {
					t.Errorf("dialled (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// A document that is too long is not read to its end.
func TestReadsNoMoreThanItKeeps(t *testing.T) {
	t.Run("CM-14 5 MB without Content-Length", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var written int
			web := newInternet(t)
			web.serve["127.0.0.1:80"] = func(conn net.Conn) {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					t.Error(err)
				}
				n, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
				for err == nil && written < 5<<20 {
					written += n
					n, err = conn.Write(make([]byte, 1024))
				}
			}
			_, err := web.client(true).Get(t.Context(), "http://127.0.0.1/c", fetch.Metadata)
			if !errors.Is(err, fetch.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			synctest.Wait()
			if written > 16<<10 {
				t.Errorf("%d bytes were read", written)
			}
		})
	})
}

// All failures take the same time, so that a stranger who chooses the URL learns nothing about the network from it.
func TestFailuresTakeTheSameTime(t *testing.T) {
	certificate := authority.issue(leaf{host: "client.example"})
	stranger := authority.issue(leaf{host: "client.example", selfSigned: true})
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	tests := []struct {
		name  string
		setUp func(*internet)
		want  error
	}{
		{"CM-30 closed port", func(i *internet) { i.name("client.example", "93.184.216.34") }, fetch.ErrUnavailable},
		{"CM-30 filtered port", func(i *internet) { i.name("client.example", "8.8.8.8") }, fetch.ErrUnavailable},
		{"CM-30 no such name", func(*internet) {}, fetch.ErrUnavailable},
		{"CM-30 private address", func(i *internet) { i.name("client.example", "10.0.0.1") }, fetch.ErrNotAllowed},
		{"CM-30 404", func(i *internet) { i.site("client.example", answer(404, "text/plain", "")) },
			fetch.ErrUnavailable},
		{"CM-30 TLS error", func(i *internet) {
			i.name("client.example", "93.184.216.34")
			i.listen("93.184.216.34:443", hangs, &tls.Config{Certificates: []tls.Certificate{stranger}})
		}, fetch.ErrUnavailable},
		{"CM-30 no TLS", func(i *internet) {
			i.name("client.example", "93.184.216.34")
			i.listen("93.184.216.34:443", hangs, nil)
		}, fetch.ErrUnavailable},
		{"CM-30 another protocol", func(i *internet) {
			i.name("client.example", "93.184.216.34")
			i.serve["93.184.216.34:443"] = func(conn net.Conn) { fmt.Fprint(conn, "SSH-2.0\r\n"); conn.Close() }
		}, fetch.ErrUnavailable},
		{"CM-30 silence after the connection", func(i *internet) {
			i.name("client.example", "93.184.216.34")
			i.serve["93.184.216.34:443"] = swallow
		}, fetch.ErrUnavailable},
		{"CM-30 silence after TLS", func(i *internet) { i.site("client.example", hangs) }, fetch.ErrUnavailable},
		{"CM-30 silence after the header", func(i *internet) {
			i.name("client.example", "93.184.216.34")
			i.listen("93.184.216.34:443", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}, fetch.ErrUnavailable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := newInternet(t)
				tt.setUp(web)
				client := fetch.New(fetch.Options{
					Now: time.Now, LookupIP: web.lookup, RootCAs: authority.pool, Dial: filtered(web, "8.8.8.8:443"),
				})
				began := time.Now()
				_, err := client.Get(t.Context(), there, fetch.Metadata)
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("it took %v, want 5s", took)
				}
			})
		})
	}
	t.Run("a caller whose context ends does not wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			_, err := newInternet(t).client(false).Get(ctx, there, fetch.Metadata)
			if took := time.Since(began); !errors.Is(err, fetch.ErrUnavailable) || took != time.Second {
				t.Errorf("got %v after %v, want ErrUnavailable after 1s", err, took)
			}
		})
	})
}

func TestTLS(t *testing.T) {
	expired := leaf{host: "client.example", notAfter: longAgo.AddDate(5, 0, 0)}
	tests := []struct {
		name   string
		config *tls.Config
		want   string
	}{
		{"CM-32 TLS 1.3", &tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example"})}},
			""},
		{"CM-32 TLS 1.2",
			&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example"})},
				MaxVersion: tls.VersionTLS12}, ""},
		{"CM-32 HTTP/2 on offer",
			&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example"})},
				NextProtos: []string{"h2", "http/1.1"}}, ""},
		{"CM-32 self-signed",
			&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example",
				selfSigned: true})}}, "unknown authority"},
		{"CM-32 expired", &tls.Config{Certificates: []tls.Certificate{authority.issue(expired)}}, "expired"},
		{"CM-32 wrong name", &tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "other.example"})}},
			"other.example"},
		{"CM-32 TLS 1.1",
			&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example"})},
				MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "protocol version"},
		{"CM-32 TLS 1.0",
			&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example"})},
				MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "protocol version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				web := newInternet(t)
				web.name("client.example", "93.184.216.34")
				var requests atomic.Int64
				web.listen("93.184.216.34:443", func(w http.ResponseWriter, r *http.Request) {
					requests.Add(1)
					answer(200, "application/json", "{}")(w, r)
				}, tt.config)
				_, err := web.client(false).Get(t.Context(), there, fetch.Metadata)
				switch {
				case tt.want == "":
					if err != nil {
						t.Error(err)
					}
				case !errors.Is(err, fetch.ErrUnavailable) || !strings.Contains(err.Error(), tt.want):
					t.Errorf("got %v, want ErrUnavailable with %q", err, tt.want)
				case requests.Load() != 0:
					t.Error("a request was sent")
				}
			})
		})
	}
}

func TestRequest(t *testing.T) {
	t.Run("CM-33 the request has only the necessary headers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var (
				got     http.Header
				offered [][]byte
				protos  []string
			)
			web := newInternet(t)
			web.name("client.example", "93.184.216.34")
			web.listen("93.184.216.34:443", func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.Host != "client.example" || r.Proto != "HTTP/1.1" {
					t.Errorf("%s %s at %s", r.Method, r.Proto, r.Host)
				}
				got = r.Header
				http.SetCookie(w, &http.Cookie{Name: "track", Value: "1"})
				answer(200, "application/json", "{}")(w, r)
			}, &tls.Config{
				Certificates: []tls.Certificate{authority.issue(leaf{host: "client.example"})},
				ClientAuth:   tls.RequestClientCert,
				GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					protos = hello.SupportedProtos
					return nil, nil
				},
				VerifyConnection: func(state tls.ConnectionState) error {
					for _, cert := range state.PeerCertificates {
						offered = append(offered, cert.Raw)
					}
					return nil
				},
			})
			client := web.client(false)
			for range 2 {
				if _, err := client.Get(t.Context(), there, fetch.Metadata); err != nil {
					t.Fatal(err)
				}
				want := http.Header{
					"Accept":          {"application/json"},
					"Accept-Encoding": {"identity"},
					"Connection":      {"close"},
					"User-Agent":      {"Cardea (+https://github.com/cardea-auth/cardea)"},
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("header (-want +got):\n%s", diff)
				}
			}
			if len(offered) > 0 {
				t.Error("a client certificate was offered")
			}
			if len(protos) > 0 && !cmp.Equal(protos, []string{"http/1.1"}) {
				t.Errorf("protocols %v", protos)
			}
			if diff := cmp.Diff([]string{"93.184.216.34:443", "93.184.216.34:443"}, web.dials()); diff != "" {
				t.Errorf("dialled (-want +got):\n%s", diff)
			}
		})
	})
}

// At most 2 fetches of one host and 32 in total run at once; the others wait for up to 5 seconds.
func TestTurns(t *testing.T) {
	// gather begins n fetches from hosts that never respond, and returns how many ran at once and how many failed in
	// the end.
	gather := func(t *testing.T, n int, host func(int) string) (atOnce, failed int64) {
		var serving, failures atomic.Int64
		web := newInternet(t)
		for k := range n {
			web.names[host(k)] = nil
			web.name(host(k), "93.184.216.34")
		}
		web.serve["93.184.216.34:443"] = func(conn net.Conn) {
			serving.Add(1)
			swallow(conn)
		}
		client := web.client(false)
		for k := range n {
			go func() {
				_, err := client.Get(t.Context(), "https://"+host(k)+"/c", fetch.Metadata)
				if errors.Is(err, fetch.ErrUnavailable) || errors.Is(err, fetch.ErrBusy) {
					failures.Add(1)
				}
			}()
		}
		synctest.Wait()
		atOnce = serving.Load()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		return atOnce, failures.Load()
	}
	t.Run("CM-29 one host", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			atOnce, failed := gather(t, 100, func(int) string { return "client.example" })
			if atOnce != 2 || failed != 100 {
				t.Errorf("%d at once, %d failed; want 2 and 100", atOnce, failed)
			}
		})
	})
	t.Run("CM-29 many hosts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			atOnce, failed := gather(t, 100, func(k int) string { return fmt.Sprintf("c%d.example", k) })
			if atOnce != 32 || failed != 100 {
				t.Errorf("%d at once, %d failed; want 32 and 100", atOnce, failed)
			}
		})
	})
	t.Run("CM-29 a fetch that got no turn fails with ErrBusy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			web.name("slow.example", "8.8.8.8")
			web.serve["8.8.8.8:443"] = swallow
			client := web.client(false)
			for range 2 {
				go func() { _, _ = client.Get(t.Context(), "https://slow.example/a", fetch.Metadata) }()
			}
			synctest.Wait()
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if _, err := client.Get(ctx, "https://slow.example/b", fetch.Metadata); !errors.Is(err, fetch.ErrBusy) {
				t.Errorf("got %v, want ErrBusy", err)
			}
		})
	})
	t.Run("CM-29 a slow host takes no turn from others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			web.site("client.example", answer(200, "application/json", "{}"))
			web.name("slow.example", "8.8.8.8")
			web.serve["8.8.8.8:443"] = swallow
			client := web.client(false)
			for range 500 {
				go func() { _, _ = client.Get(t.Context(), "https://slow.example/c", fetch.Metadata) }()
			}
			synctest.Wait()
			if _, err := client.Get(t.Context(), there, fetch.Metadata); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("CM-29 more fetches than may wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			web := newInternet(t)
			client := web.client(false)
			for range 1024 {
				go func() { _, _ = client.Get(t.Context(), there, fetch.Metadata) }()
			}
			synctest.Wait()
			began := time.Now()
			_, err := client.Get(t.Context(), there, fetch.Metadata)
			if took := time.Since(began); !errors.Is(err, fetch.ErrBusy) || took != 0 {
				t.Errorf("got %v after %v, want ErrBusy at once", err, took)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			web.site("client.example", answer(200, "application/json", "{}"))
			if _, err := client.Get(t.Context(), there, fetch.Metadata); err != nil {
				t.Errorf("after the flood: %v", err)
			}
		})
	})
}

// What is sent through Transport goes nowhere that Get does not go.
func TestTransport(t *testing.T) {
	here := httptest.NewServer(http.NotFoundHandler())
	defer here.Close()
	_, port, err := net.SplitHostPort(here.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{"private.example": "10.0.0.1", "metadata.example": "169.254.169.254",
		"rebound.example": "127.0.0.1", "public.example": "8.8.8.8"}
	var dialed []string
	options := fetch.Options{
		Now: time.Now,
		LookupIP: func(_ context.Context, host string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(addresses[host])}, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			dialed = append(dialed, address)
			return nil, errors.New("no network here")
		},
	}
	transport := fetch.New(options).Transport()
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "10.0.0.1", "private.example", "metadata.example",
		"rebound.example", "public.example"} {
		client := http.Client{Transport: transport}
		_, err := client.Get("http://" + host + ":" + port)
		if err == nil || host != "public.example" && !errors.Is(err, fetch.ErrNotAllowed) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if want := []string{"8.8.8.8:" + port}; !slices.Equal(dialed, want) {
		t.Errorf("it dialed %v, want %v", dialed, want)
	}
	options.AllowLoopback, options.Dial = true, nil
	resp, err := (&http.Client{Transport: fetch.New(options).Transport()}).Get(here.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
