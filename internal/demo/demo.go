// Package demo runs Cardea for a first try: an authorization server, an MCP server that it protects, an account to sign
// in with, and an agent that can play a complete session.
package demo

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
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

// Options configure the demo.
type Options struct {
	// Listen and ToolsListen are the addresses of the authorization server and the MCP server. "" means the default
	// port, or with Script a free one.
	Listen, ToolsListen string
	// Script makes the demo play a session and end.
	Script bool
	// Gateway makes the gateway of a configuration file, which answers on the listener until its context ends. It then
	// stands in front of an MCP server that knows nothing of authorization. If Gateway is nil, the MCP server protects
	// itself.
	Gateway func(file string, l net.Listener, log *slog.Logger) (serve func(context.Context) error, err error)
	// DataDir is the folder of the data. If it is "", the data is deleted at the end.
	DataDir string
	// Version is the version of the program.
	Version string
	// Program is the name with which the program was called.
	Program string
	Out     io.Writer
	// Configure returns the configuration with the given keys set.
	Configure func(map[string]string) (config.Config, error)
	// NewServer puts a server together on a migrated database, with the master key of its configuration.
	NewServer func(context.Context, config.Config, *store.DB, *slog.Logger) (*server.Server, error)
	// Logger returns a logger for a configuration.
	Logger func(config.Log) *slog.Logger
}

// Run runs the demo until ctx is done or, with Script, until the session has ended.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, email: "demo@example.com"}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.start(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return d.serve(ctx) })
	running.Go(func() error {
		if !o.Script {
			d.introduce()
			return nil
		}
		defer stop()
		return d.play(ctx)
	})
	return running.Wait()
}

// demo has the two servers, their listeners, and their configuration.
type demo struct {
	Options
	issuer, mcpServer string // their URLs
	email, password   string // of the person
	introspects       agent.Credentials

	db      *store.DB
	server  *server.Server
	tools   http.Handler
	at      struct{ server, tools net.Listener }
	mails   string                      // URL of the page of what the server sent
	front   func(context.Context) error // the gateway; nil: none
	rules   string                      // the gateway's configuration file
	closing []func() error              // called by close, in reverse order
}

func (d *demo) start(ctx context.Context) (err error) {
	fmt.Fprintln(d.Out, "Starting an authorization server, an MCP server and an account to sign in with…")
	if d.at.server, d.issuer, err = d.listen(ctx, d.Listen, "127.0.0.1:8080"); err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	if d.at.tools, d.mcpServer, err = d.listen(ctx, d.ToolsListen, "127.0.0.1:8081"); err != nil {
		return fmt.Errorf("%w; choose another address with --mcp-listen", err)
	}
	d.mails = d.mcpServer + "/mail"
	d.mcpServer += "/mcp"
	settings, err := d.configure()
	if err != nil {
		return err
	}
	d.issuer = settings.Issuer // it is different if --issuer is set
	if d.Script {
		settings.Log.Level = max(settings.Log.Level, slog.LevelWarn) // the session is printed anyway
	}
	log := d.Logger(settings.Log)
	mails := &inbox{log: log}
	if settings.Mail.SMTP == "" {
		settings.Mail.Deliver = mails.deliver
		if len(settings.Login.Methods) > 0 && !slices.Contains(settings.Login.Methods, "email") {
			settings.Login.Methods = append(settings.Login.Methods, "email")
		}
	}
	if d.db, err = store.Open(ctx, settings.Database, store.Options{Logger: log}); err != nil {
		return err
	}
	d.closing = append(d.closing, d.db.Close)
	if _, err := d.db.Migrate(ctx); err != nil {
		return err
	}
	if err := d.provision(ctx); err != nil {
		return err
	}
	if d.server, err = d.NewServer(ctx, settings, d.db, log); err != nil {
		return err
	}
	if d.Gateway != nil {
		return d.openGateway(ctx, settings, mails)
	}
	d.tools, err = newTools(d.issuer, d.mcpServer, d.Version, d.introspects, log, mails)
	return err
}

// listen opens address, or the usual one if address is "", or with Script any free one. It also returns the URL of the
// listener for a browser on this computer.
func (d *demo) listen(ctx context.Context, address, usual string) (net.Listener, string, error) {
	switch {
	case address != "":
	case d.Script:
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

// configure reads the configuration, except for the keys that could make the demo use other data or another name.
func (d *demo) configure() (config.Config, error) {
	folder := d.DataDir
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "cardea-demo-"); err != nil {
			return config.Config{}, fmt.Errorf("the folder for the demo's data could not be created: %w", err)
		}
		d.closing = append(d.closing, func() error { return os.RemoveAll(folder) })
	}
	return d.Configure(map[string]string{
		"issuer":   d.issuer,
		"listen":   d.at.server.Addr().String(),
		"data_dir": folder,
		"database": "sqlite:" + filepath.Join(folder, "cardea.db"),
		"tls.cert": "",
		"tls.key":  "",

		"registration.cimd_allow_loopback": "true", // because agents under development run on this machine too
	})
}

// provision creates the resource, the account and the MCP server's credentials, or finds those of an earlier demo with
// the same data. Passwords and secrets are new each time.
func (d *demo) provision(ctx context.Context) error {
	o, by := &admin.Operations{DB: d.db, Issuer: d.issuer}, admin.Command("demo", "cardea demo")
	d.password = strings.ToLower(rand.Text()[:4] + "-" + rand.Text()[:4] + "-" + rand.Text()[:4])
	resources, _, err := o.Resources(ctx, by, store.Page{Limit: 1})
	if err != nil {
		return err
	}
	switch _, err := o.ResetPassword(ctx, by, d.email, d.password, admin.KeepGrants); {
	case err == nil:
		owner := identity.Owner // which it was not in older versions
		if _, err := o.UpdateUser(ctx, by, d.email, admin.UserTerms{Role: &owner}); err != nil {
			return err
		}
	case !isNotFound(err):
		return err
	case len(resources) > 0: // do not create an account with a printed password in data that is not a demo's
		return errors.New("the data folder contains data that is not a demo's: choose another one with --data-dir")
	default:
		if _, err := o.CreateUser(ctx, by,
			admin.NewUser{Email: d.email, Name: "Demo", Password: d.password, Role: identity.Owner}); err != nil {
			return err
		}
	}
	if _, err := o.Resource(ctx, by, d.mcpServer); isNotFound(err) {
		name := serverName
		_, err = o.CreateResource(ctx, by,
			admin.NewResource{Identifier: d.mcpServer, ResourceTerms: admin.ResourceTerms{Name: &name, Scopes: scopes}})
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return d.provisionCredentials(ctx, o, by)
}

// provisionCredentials creates the credentials with which the MCP server introspects tokens (RFC 7662). They replace
// those of an earlier demo.
func (d *demo) provisionCredentials(ctx context.Context, o *admin.Operations, by admin.Caller) error {
	for page := (store.Page{Limit: 1000}); ; {
		clients, next, err := o.Clients(ctx, by, admin.ClientQuery{}, page)
		if err != nil {
			return err
		}
		for _, c := range clients {
			if !slices.Equal(c.ResourceServers, []string{d.mcpServer}) {
				continue
			}
			c, err := o.RotateClientSecret(ctx, by, c.ID, 0)
			d.introspects = agent.Credentials{ID: c.ID, Secret: c.Secret}
			return err
		}
		if page.After = next; next == "" {
			break
		}
	}
	name := "Demo MCP server"
	c, err := o.CreateClient(ctx, by,
		admin.NewClient{ClientTerms: admin.ClientTerms{Name: &name, ResourceServers: []string{d.mcpServer}}})
	d.introspects = agent.Credentials{ID: c.ID, Secret: c.Secret}
	return err
}

func isNotFound(err error) bool {
	var undone *admin.Error
	return errors.As(err, &undone) && undone.Kind == admin.NotFound
}

// serve runs both servers until ctx is done.
func (d *demo) serve(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	judging, endServer := ctx, func() {}
	if d.front != nil { // its last calls are judged by the authorization server, which ends after it
		judging, endServer = context.WithCancel(context.WithoutCancel(ctx))
		running.Go(func() error {
			defer endServer()
			return d.front(ctx)
		})
	}
	running.Go(func() error { return d.server.Serve(judging, d.at.server) })
	tools := &http.Server{Handler: d.tools, ReadHeaderTimeout: 10 * time.Second}
	running.Go(func() error {
		if err := tools.Serve(d.at.tools); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("demo: MCP server: %w", err)
		}
		return nil
	})
	running.Go(func() error {
		<-ctx.Done()
		return tools.Close() // agents keep streams open that never end by themselves
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

// introduce prints how to use the demo.
func (d *demo) introduce() {
	data := "deleted at the end (use --data-dir DIR to keep it)"
	if d.DataDir != "" {
		data = "kept in " + d.DataDir
	}
	fmt.Fprintf(d.Out, `Cardea demo

  Authorization server  %[1]s
  MCP server            %[2]s%[8]s
  Console               %[1]s/admin
  For agents            %[1]s/admin/mcp, where an agent does what the console does
  Sign in as            %[3]s with password %[4]s
  Mail                  %[7]s, where what the server sends arrives
  Data                  %[5]s

Connect an agent. It opens your browser, where you sign in and choose what it may do:

  Claude Code   claude mcp add --transport http cardea-demo %[2]s
                then type /mcp in a session and choose cardea-demo
  VS Code       code --add-mcp '{"name":"cardea-demo","type":"http","url":"%[2]s"}'
  Cursor        in .cursor/mcp.json: {"mcpServers":{"cardea-demo":{"url":"%[2]s"}}}
  Inspector     npx @modelcontextprotocol/inspector
                with transport Streamable HTTP and URL %[2]s
  By hand       curl -i %[2]s

Ask it for the weather in Rome, or what is in your calendar. Then ask it to send an e-mail:
it needs a scope that it does not have yet, so it asks you again.

To see a complete session:  %[6]s demo --script
Ctrl-C ends the demo.
`, d.issuer, d.mcpServer, d.email, d.password, data, d.Program, d.mails, d.behind())
}

// play plays an agent's session against the running servers.
func (d *demo) play(ctx context.Context) error {
	says := agent.NewTranscript(d.Out)
	who, err := agent.NewPerson(d.email, d.password, d.issuer, says)
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "An agent gets only the address of an MCP server: %s\nSecrets are shortened (…).\n", d.mcpServer)
	if err := agent.New(d.mcpServer, who, d.introspects, says).Play(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\nAll %d steps succeeded.\n", agent.Steps)
	return nil
}
