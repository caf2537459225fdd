package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

const (
	resource    = "https://mcp.example.com/mcp"
	weather     = "mcp:tools:weather"
	redirectURI = "http://127.0.0.1/callback"
	email       = "ada@example.com"
	password    = "a harbour, a lantern, a kite" // #nosec G101 -- of an account that lives for one run
)

// party is a client as the commands and the token endpoint print it.
type party struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// basic is the header of RFC 6749 §2.3.1. Neither part has a character to escape.
func (p party) basic() string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.ClientID+":"+p.ClientSecret)) + "\r\n"
}

// command runs a command of Cardea and decodes the JSON it prints into result.
func command(ctx context.Context, binary string, env []string, stdin string, result any, arguments ...string) error {
	c := exec.CommandContext(ctx, binary, append(arguments, "-o", "json")...) // #nosec G204 -- the operator's binary
	c.Env, c.Stdin, c.Stderr = env, strings.NewReader(stdin), os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%s %s: %w", arguments[0], arguments[1], err)
	}
	return json.Unmarshal(out, result)
}

// parties are all that the load needs to be somebody.
type parties struct{ bot, server, app party }

func provision(ctx context.Context, binary string, env []string) (p parties, err error) {
	var ignored any
	return p, errors.Join(
		command(ctx, binary, env, "", &ignored, "resource", "create", "--identifier", resource, "--name", "Weather", "--scope", weather+"=Forecasts"),
		command(ctx, binary, env, "", &p.bot, "client", "create", "--name", "Bot", "--grant", "client_credentials", "--scope", weather, "--resource", resource),
		command(ctx, binary, env, "", &p.server, "client", "create", "--name", "Weather-RS", "--resource-server", resource),
		command(ctx, binary, env, "", &p.app, "client", "create", "--name", "App", "--grant", "authorization_code", "--grant", "refresh_token",
			"--redirect-uri", redirectURI, "--public"),
		command(ctx, binary, env, password+"\n", &ignored, "user", "create", "--email", email, "--name", "Ada", "--password-stdin"),
	)
}

type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// grants has the person connect the client 64 times.
func grants(ctx context.Context, issuer string, app party) ([]string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirectURI) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	chains := make([]string, connections)
	for i := range chains {
		verifier := rand.Text() + rand.Text()
		hash := sha256.Sum256([]byte(verifier))
		code, err := consent(ctx, browser, issuer+"/oauth2/authorize?"+url.Values{
			"response_type": {"code"}, "client_id": {app.ClientID}, "redirect_uri": {redirectURI}, "scope": {weather}, "resource": {resource},
			"state": {rand.Text()}, "code_challenge_method": {"S256"}, "code_challenge": {base64.RawURLEncoding.EncodeToString(hash[:])},
		}.Encode())
		if err != nil {
			return nil, err
		}
		t, err := redeem(ctx, issuer, "", url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {redirectURI},
			"client_id": {app.ClientID}, "code_verifier": {verifier}, "resource": {resource}})
		if err != nil {
			return nil, err
		}
		chains[i] = t.RefreshToken
	}
	return chains, nil
}

// redeem asks the token endpoint. authorization is empty or a whole header line.
func redeem(ctx context.Context, issuer, authorization string, form url.Values) (t tokens, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return t, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if _, value, found := strings.Cut(strings.TrimSpace(authorization), ": "); found {
		req.Header.Set("Authorization", value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return t, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the token endpoint says %s: %s", resp.Status, body)
	}
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(body, &t)
}

var (
	formTag  = regexp.MustCompile(`(?s)<form[^>]*>.*?</form>`)
	inputTag = regexp.MustCompile(`<input[^>]*>`)
)

// consent opens the address and fills in the forms it is shown, until the
// browser is sent back to the client. It returns the code.
func consent(ctx context.Context, browser *http.Client, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	for range 4 { // authorize, sign-in, consent, and back
		if err != nil {
			return "", err
		}
		resp, err := browser.Do(req)
		if err != nil {
			return "", err
		}
		page, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return "", err
		}
		if back, err := resp.Location(); err == nil {
			if code := back.Query().Get("code"); code != "" {
				return code, nil
			}
			return "", fmt.Errorf("the browser comes back with %s", back.RawQuery)
		}
		if req, err = fill(ctx, resp.Request.URL, string(page)); err != nil {
			return "", fmt.Errorf("%s at %s: %w", resp.Status, resp.Request.URL.Path, err)
		}
	}
	return "", errors.New("the pages lead in a circle")
}

// fill answers a page's sign-in form, or else its consent form.
func fill(ctx context.Context, at *url.URL, page string) (*http.Request, error) {
	for _, form := range formTag.FindAllString(page, -1) {
		signIn := strings.Contains(form, `name="password"`)
		if !signIn && !strings.Contains(form, `name="decision"`) {
			continue
		}
		values := url.Values{}
		for _, input := range inputTag.FindAllString(form, -1) {
			if kind := attribute(input, "type"); kind == "hidden" || kind == "checkbox" {
				values.Add(attribute(input, "name"), attribute(input, "value"))
			}
		}
		if signIn {
			values.Set("email", email)
			values.Set("password", password)
		} else {
			values.Set("decision", "allow")
		}
		action, err := at.Parse(attribute(form, "action"))
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(values.Encode()))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req, nil
	}
	return nil, errors.New("no form to sign in or to consent")
}

// attribute returns the value of the first attribute of that name.
func attribute(tag, name string) string {
	_, rest, _ := strings.Cut(tag, " "+name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return html.UnescapeString(value)
}
