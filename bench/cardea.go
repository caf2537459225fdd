package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
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
)

// party has the members that the bench needs from a command's output or a token response.
type party struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// basic returns the header of RFC 6749 §2.3.1. Neither part has characters that need escaping.
func (p party) basic() string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.ClientID+":"+p.ClientSecret)) + "\r\n"
}

// command runs a command of Cardea and decodes its JSON output into result.
func command(ctx context.Context, binary string, env []string, result any, arguments ...string) error {
	c := exec.CommandContext(ctx, binary, append(arguments, "-o", "json")...) // #nosec G204 -- the operator's binary
	c.Env, c.Stderr = env, os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("%s %s: %w", arguments[0], arguments[1], err)
	}
	return json.Unmarshal(out, result)
}

// parties are the clients that the load uses.
type parties struct{ bot, server, app party }

func provision(ctx context.Context, binary string, env []string) (p parties, err error) {
	var ignored any
	return p, errors.Join(
		command(ctx, binary, env, &ignored, "resource", "create", "--identifier", resource, "--name", "Weather",
			"--scope", weather+"=Forecasts"),
		command(ctx, binary, env, &p.bot, "client", "create", "--name", "Bot", "--grant", "client_credentials",
			"--scope", weather, "--resource", resource),
		command(ctx, binary, env, &p.server, "client", "create", "--name", "Weather-RS", "--resource-server", resource),
		command(ctx, binary, env, &p.app, "client", "create", "--name", "App", "--grant", "authorization_code",
			"--grant", "refresh_token", "--redirect-uri", redirectURI, "--public"),
	)
}

type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// grants connects the client 64 times, each with a person's consent, and returns the refresh tokens.
func grants(address string, app party, c *cohort) ([]string, error) {
	chains := make([]string, connections)
	walk := flow(app, c)
	for i := range chains {
		err := talk(address, func(last *reply) ([]byte, error) {
			wire, finished, err := walk(0, last)
			if !finished {
				return wire, err
			}
			var t tokens
			if err := json.Unmarshal(last.body, &t); err != nil {
				return nil, err
			}
			chains[i] = t.RefreshToken
			return nil, io.EOF
		})
		if err != nil {
			return nil, err
		}
	}
	return chains, nil
}

// redeem sends a request to the token endpoint. authorization is "" or a complete header line.
func redeem(ctx context.Context, issuer, authorization string, form url.Values) (t tokens, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, issuer+"/oauth2/token",
		strings.NewReader(form.Encode()))
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
		err = fmt.Errorf("the token endpoint returned %s: %s", resp.Status, body)
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

// fill fills in the consent form of a page and returns its action and its values.
func fill(page string) (path string, form url.Values, err error) {
	for _, text := range formTag.FindAllString(page, -1) {
		if !strings.Contains(text, `name="decision"`) {
			continue
		}
		form = url.Values{"decision": {"allow"}}
		for _, input := range inputTag.FindAllString(text, -1) {
			if kind := attribute(input, "type"); kind == "hidden" || kind == "checkbox" {
				form.Add(attribute(input, "name"), attribute(input, "value"))
			}
		}
		return attribute(text, "action"), form, nil
	}
	return "", nil, errors.New("the page has no consent form")
}

// attribute returns the value of the first attribute with the given name.
func attribute(tag, name string) string {
	_, rest, _ := strings.Cut(tag, " "+name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return html.UnescapeString(value)
}
