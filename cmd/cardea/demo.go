package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

// demoCommand is `cardea demo`: an authorization server, an MCP server behind it
// and a person who may sign in, with nothing to prepare.
type demoCommand struct {
	Listen    string `placeholder:"ADDRESS" help:"Address of the authorization server, 127.0.0.1:8080 if not given; port 0 takes a free one."`
	MCPListen string `name:"mcp-listen" placeholder:"ADDRESS" help:"Address of the MCP server, 127.0.0.1:8081 if not given."`
	Script    bool   `help:"Play a whole agent session without a person, show what is sent and what comes back, and end. Takes free ports."`
}

// Help is what `cardea demo --help` adds.
func (*demoCommand) Help() string {
	return "The data are thrown away at the end, unless --data-dir names a folder for them."
}

// Run serves until ctx is done; with --script, until the session is over.
func (c *demoCommand) Run(ctx context.Context, sh *shell) (err error) {
	d := &demo{email: "demo@example.com"}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(ctx, sh, c); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return d.serve(ctx) })
	running.Go(func() error {
		if !c.Script {
			d.introduce(sh.out)
			return nil
		}
		defer stop()
		return d.play(ctx, sh.out)
	})
	return running.Wait()
}

// demo is two servers that listen, and what they know of each other.
type demo struct {
	issuer, mcpServer string // their URLs
	email, password   string // of the person
	introspects       credentials
	keeps             string // the folder that the data stay in; "" for none

	db      *store.DB
	server  *server.Server
	tools   http.Handler
	at      struct{ server, tools net.Listener }
	log     *slog.Logger
	closing []func() error // what close does, the last first
}

func (d *demo) start(ctx context.Context, sh *shell, c *demoCommand) (err error) {
	if d.at.server, d.issuer, err = d.listen(ctx, c.Listen, "127.0.0.1:8080", c.Script); err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	if d.at.tools, d.mcpServer, err = d.listen(ctx, c.MCPListen, "127.0.0.1:8081", c.Script); err != nil {
		return fmt.Errorf("%w; choose another address with --mcp-listen", err)
	}
	d.mcpServer += "/mcp"
	settings, err := d.configure(sh)
	if err != nil {
		return err
	}
	d.issuer = settings.Issuer // unless --issuer says otherwise, what it was
	if c.Script {
		settings.Log.Level = max(settings.Log.Level, slog.LevelWarn) // the session says enough
	}
	d.log = sh.newLogger(settings.Log)
	if d.db, err = openDatabase(ctx, settings.Config, d.log); err != nil {
		return err
	}
	d.closing = append(d.closing, d.db.Close)
	if _, err := d.db.Migrate(ctx); err != nil {
		return err
	}
	master, err := masterKey(ctx, settings.Config, d.db)
	if err != nil {
		return err
	}
	if err := d.provision(ctx); err != nil {
		return err
	}
	if d.server, err = server.New(ctx, settings.Config, d.db, master, d.log); err != nil {
		return err
	}
	d.tools, err = newDemoTools(d.issuer, d.mcpServer, d.introspects, d.log)
	return err
}

// listen opens the address, or the usual one, or any free one, and returns the
// URL under which a browser on this computer reaches it.
func (d *demo) listen(ctx context.Context, address, usual string, free bool) (net.Listener, string, error) {
	switch {
	case address != "":
	case free:
		address = "127.0.0.1:0"
	default:
		address = usual
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, "", err
	}
	d.closing = append(d.closing, func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // serving closes it too
			return err
		}
		return nil
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	return l, "http://localhost:" + port, err
}

// configure reads the configuration, but for what would lead the demo to data
// or to a name that are not its own.
func (d *demo) configure(sh *shell) (*config.Loaded, error) {
	for _, variable := range sh.environ {
		if folder, ok := strings.CutPrefix(variable, "CARDEA_DATA_DIR="); ok {
			d.keeps = folder
		}
	}
	if sh.DataDir != nil {
		d.keeps = *sh.DataDir
	}
	folder := d.keeps
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "cardea-demo-"); err != nil {
			return nil, fmt.Errorf("there is no place for the demo's data: %w", err)
		}
		d.closing = append(d.closing, func() error { return os.RemoveAll(folder) })
	}
	return sh.load(map[string]string{
		"issuer":   d.issuer,
		"listen":   d.at.server.Addr().String(),
		"data_dir": folder,
		"database": "sqlite:" + filepath.Join(folder, "cardea.db"),
		"tls.cert": "",
		"tls.key":  "",

		"registration.cimd_allow_loopback": "true", // agents under development are on this machine too
	})
}

// provision makes the resource, the person and the MCP server's credentials, or
// finds those that an earlier demo on the same data made. Passwords and secrets
// are new every time.
func (d *demo) provision(ctx context.Context) error {
	d.password = strings.ToLower(rand.Text()[:4] + "-" + rand.Text()[:4] + "-" + rand.Text()[:4])
	hash, err := login.HashPassword(ctx, d.password)
	if err != nil {
		return err
	}
	return d.db.Update(ctx, func(tx *store.Tx) error {
		if err := checkDemoData(tx, d.email); err != nil {
			return err
		}
		if err := provisionResource(tx, d.mcpServer); err != nil {
			return err
		}
		if err := provisionPerson(tx, d.email, hash); err != nil {
			return err
		}
		d.introspects, err = provisionCredentials(tx, d.mcpServer)
		return err
	})
}

// checkDemoData makes sure that the demo's person, whose password is printed,
// gets into no data but a demo's.
func checkDemoData(tx *store.Tx, email string) error {
	_, err := tx.UserByEmail(email)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	resources, err := tx.Resources()
	if err == nil && len(resources) > 0 {
		err = errors.New("the data folder holds other data than a demo's; choose another with --data-dir")
	}
	return err
}

func provisionResource(tx *store.Tx, identifier string) error {
	_, err := tx.Resource(identifier)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	r := &oauth.Resource{
		ID:         oauth.NewID("res_"),
		Identifier: identifier,
		Name:       demoName,
		Scopes:     demoScopes,
		CreatedAt:  tx.Now(),
		UpdatedAt:  tx.Now(),
	}
	return tx.Conclude(audit.Resource("create", identifier), tx.CreateResource(r))
}

func provisionPerson(tx *store.Tx, email, hash string) error {
	user, err := tx.UserByEmail(email)
	switch {
	case err == nil:
		return tx.Conclude(audit.User("reset_password", user.ID), tx.SetPassword(user.ID, hash))
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	user = &identity.User{ID: oauth.NewID("usr_"), Email: email, Name: "Demo", PasswordHash: hash, CreatedAt: tx.Now()}
	return tx.Conclude(audit.User("create", user.ID), tx.CreateUser(user))
}

// provisionCredentials returns those with which the MCP server asks whether a
// token is still good (RFC 7662).
func provisionCredentials(tx *store.Tx, resource string) (credentials, error) {
	own := credentials{secret: oauth.NewSecret(oauth.SecretPrefix)}
	fingerprint := "demo " + resource
	c, err := tx.ClientByFingerprint(fingerprint)
	switch {
	case err == nil:
		own.id = c.ID
		return own, tx.Conclude(audit.Client("rotate_secret", c.ID), tx.ReplaceSecret(c.ID, oauth.Hash(own.secret), tx.Now()))
	case !errors.Is(err, store.ErrNotFound):
		return own, err
	}
	own.id = oauth.NewID("mcp_")
	c = &oauth.Client{
		ID:             own.id,
		Metadata:       oauth.Metadata{Name: "Demo MCP server", Method: oauth.MethodBasic},
		Origin:         oauth.ByOperator,
		ResourceServer: resource,
		Secrets:        []oauth.Secret{{Hash: oauth.Hash(own.secret), CreatedAt: tx.Now()}},
		CreatedAt:      tx.Now(),
		ApprovedAt:     tx.Now(),
	}
	return own, tx.Conclude(audit.Client("create", c.ID), tx.CreateClient(c, fingerprint))
}

// serve serves both until ctx is done.
func (d *demo) serve(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return d.server.Serve(ctx, d.at.server) })
	tools := &http.Server{Handler: d.tools, ReadHeaderTimeout: 10 * time.Second}
	running.Go(func() error {
		if err := tools.Serve(d.at.tools); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("demo: MCP server: %w", err)
		}
		return nil
	})
	running.Go(func() error {
		<-ctx.Done()
		return tools.Close() // agents keep streams open that would end by themselves never
	})
	return running.Wait()
}

func (d *demo) close() error {
	var errs []error
	for i := len(d.closing) - 1; i >= 0; i-- {
		errs = append(errs, d.closing[i]())
	}
	return errors.Join(errs...)
}

// introduce says how to use the demo.
func (d *demo) introduce(w io.Writer) {
	data := "thrown away at the end (--data-dir DIR keeps them)"
	if d.keeps != "" {
		data = "kept in " + d.keeps
	}
	fmt.Fprintf(w, `Cardea demo

  Authorization server  %[1]s
  MCP server            %[2]s
  Sign in as            %[3]s with password %[4]s
  Data                  %[5]s

Connect an agent. It opens your browser, where you sign in and say what it may do:

  Claude Code   claude mcp add --transport http cardea-demo %[2]s
                then type /mcp in a session and choose cardea-demo
  VS Code       code --add-mcp '{"name":"cardea-demo","type":"http","url":"%[2]s"}'
  Cursor        in .cursor/mcp.json: {"mcpServers":{"cardea-demo":{"url":"%[2]s"}}}
  Inspector     npx @modelcontextprotocol/inspector
                with transport Streamable HTTP and URL %[2]s
  By hand       curl -i %[2]s

Ask it for the weather in Rome, or what is in your calendar. Then have it send an e-mail:
that takes a scope it does not have yet, and it comes back to ask you.

The same session without you:  %[6]s demo --script
Ctrl-C ends the demo.
`, d.issuer, d.mcpServer, d.email, d.password, data, os.Args[0])
}

// play plays the session of demo_script.go against the running servers.
func (d *demo) play(ctx context.Context, w io.Writer) error {
	says := &transcript{w: w, colour: isTerminal(w)}
	who, err := newPerson(d.email, d.password, d.issuer, says)
	if err != nil {
		return err
	}
	a := &agent{
		mcpServer:   d.mcpServer,
		person:      who,
		introspects: d.introspects,
		says:        says,
		http:        &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	fmt.Fprintf(w, "An agent is given the address of an MCP server, %s, and nothing else.\nSecrets are cut short (…).\n", d.mcpServer)
	if err := a.play(ctx); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nAll %d steps went as they should.\n", len(session))
	return nil
}
