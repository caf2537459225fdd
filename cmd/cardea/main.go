// Command cardea is an OAuth 2.1 authorization server for MCP servers, and the commands that run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// commands is the tree of commands. Each noun has a file.
type commands struct {
	settings
	ShowVersion kong.VersionFlag `name:"version" help:"Print the version."`

	Serve    serveCommand     `cmd:"" help:"Run the authorization server."`
	Gateway  gatewayCommand   `cmd:"" help:"Run authorization in front of MCP servers in any language."`
	Doctor   doctorCommand    `cmd:"" help:"Diagnose the authorization of an MCP server from outside."`
	Setup    setupCommand     `cmd:"" name:"setup-link" help:"Print a fresh one-time link that makes the first owner; the link before it ends."`
	Resource resourceCommands `cmd:"" help:"MCP servers that Cardea protects."`
	Client   clientCommands   `cmd:"" help:"Applications that ask for tokens."`
	Initial  initialCommands  `cmd:"" name:"initial-access-token" help:"Tokens with which clients register if registration.dcr is token."`
	User     userCommands     `cmd:"" help:"People who sign in."`
	Invite   inviteCommands   `cmd:"" name:"invitation" help:"Invitations to make an account (cardea user invite makes them)."`
	Group    groupCommands    `cmd:"" help:"Groups of people."`
	Provider providerCommands `cmd:"" help:"Identity providers with which people sign in."`
	Grant    grantCommands    `cmd:"" help:"What people have allowed clients to do at MCP servers."`
	Session  sessionCommands  `cmd:"" help:"Browsers in which people are signed in."`
	Key      keyCommands      `cmd:"" help:"Keys that sign access tokens."`
	Audit    auditCommands    `cmd:"" help:"The record of every decision."`
	Apply    applyCommand     `cmd:"" help:"Make groups, MCP servers and clients what a file says."`
	Export   exportCommand    `cmd:"" help:"Print that file as things are."`
	Token    tokenCommands    `cmd:"" help:"Inspect tokens."`
	Migrate  migrateCommand   `cmd:"" help:"Bring the database schema up to date (serve does this too, unless it has --no-migrate)."`
	Backup   backupCommand    `cmd:"" help:"Write everything but the master key to a file, beside a running server."`
	Restore  restoreCommand   `cmd:"" help:"Make the database of an empty installation from that file."`
	Health   healthCommand    `cmd:"" help:"Ask the configured server whether it is ready; exit 1 if it is not."`
	Demo     demoCommand      `cmd:"" help:"Run a demo: an authorization server and an MCP server that it protects."`
	Config   configCommands   `cmd:"" help:"Check or show the configuration."`
	Version  versionCommand   `cmd:"" help:"Print the version."`

	Completion completionCommand `cmd:"" help:"Print a script with which a shell completes commands and flags."`
}

// Exit codes. exitUsage says that the command line itself is wrong: it fails again with any data. A thing that is
// not found, a conflict, a database or a configuration that cannot be used, and a negative verdict are exitFailed.
// exitCode decides between them.
const (
	exitFine = iota
	exitFailed
	exitUsage
	exitDifferent = exitUsage // apply --dry-run, as diff programs do
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], &shell{in: os.Stdin, out: os.Stdout, errs: os.Stderr, environ: os.Environ()})
	stop()
	os.Exit(code)
}

// shell is the environment of a command: its flags, its streams and its environment variables.
type shell struct {
	*settings
	in        io.Reader
	out, errs io.Writer
	environ   []string
}

// run runs the command that args name and returns the exit code. It writes an error as one sentence to standard error.
func run(ctx context.Context, args []string, sh *shell) int {
	var all commands
	sh.settings = &all.settings
	ctx = audit.WithRequest(ctx, audit.Request{ID: oauth.NewTimedID("cli-", time.Now()), Address: "local"})
	parser, err := newParser(ctx, &all, sh)
	if err != nil {
		return sh.fail(err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if noun := aloneNoun(err); noun != nil {
		return sh.fail(noun.PrintUsage(false))
	}
	if err != nil {
		return sh.fail(usageError(err.Error() + "; " + helpFor(err)))
	}
	return sh.fail(command.Run())
}

// newParser returns the parser of command lines. What it parses is in all.
func newParser(ctx context.Context, all *commands, sh *shell) (*kong.Kong, error) {
	return kong.New(all,
		kong.Name("cardea"),
		kong.Description("OAuth 2.1 authorization server for MCP servers."),
		kong.Writers(sh.out, sh.errs),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(decodeSpan)),
		kong.NamedMapper("filecontent", kong.MapperFunc(sh.decodeFile)),
		kong.Vars{"version": "cardea " + thisBuild().Version},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(sh),
	)
}

// usageError says that a command was called wrongly, and how to call it.
type usageError string

func (e usageError) Error() string { return string(e) }

// errVerdict says that the command has printed a negative verdict.
var errVerdict = errors.New("the verdict is negative")

// advice says what could not be done and what to do next. It is printed without the errors that wrap it.
type advice string

func (a advice) Error() string { return string(a) }

func advise(format string, args ...any) error { return advice(fmt.Sprintf(format, args...)) }

// fail writes err to standard error and returns its exit code.
func (sh *shell) fail(err error) int {
	var usage usageError
	var advice advice
	var undone *admin.Error
	refusal, refused := oauth.AsRefusal(err)
	code, sentence, cause := exitCode(err), "", store.Cause(err)
	switch {
	case err == nil, errors.Is(err, errVerdict), errors.Is(err, errDifference):
		return code
	case errors.As(err, &usage):
		sentence = usage.Error()
	case errors.As(err, &undone):
		sentence = whatNext(undone)
	case errors.As(err, &advice):
		sentence = advice.Error()
	case refused: // the code of a refusal is for clients only
		sentence = refusal.Description
	case cause != "":
		sentence = cause
	case errors.Is(err, oauth.ErrUnavailable):
		sentence = "the database cannot be used at this moment; cardea config print shows which it is: " + err.Error()
	default:
		sentence = err.Error()
	}
	fmt.Fprintln(sh.errs, "cardea:", plain(strings.Join(strings.Fields(sentence), " ")))
	return code
}

// exitCode returns the exit code of a command that ended with err.
func exitCode(err error) int {
	usage, undone := usageError(""), (*admin.Error)(nil)
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errDifference):
		return exitDifferent
	case errors.As(err, &usage), errors.As(err, &undone) && undone.Kind == admin.Invalid:
		return exitUsage
	}
	return exitFailed
}

// aloneNoun returns the context of a command line that names a noun without a verb. It returns nil for any other error.
func aloneNoun(err error) *kong.Context {
	parse := (*kong.ParseError)(nil)
	if !errors.As(err, &parse) || !strings.HasPrefix(err.Error(), "expected ") {
		return nil
	}
	if noun := parse.Context.Selected(); noun == nil || noun.Leaf() {
		return nil
	}
	return parse.Context
}

// helpFor names the help of the command that was called wrongly.
func helpFor(err error) string {
	words := "cardea"
	if parse := (*kong.ParseError)(nil); errors.As(err, &parse) {
		for _, step := range parse.Context.Path {
			if step.Command != nil {
				words += " " + step.Command.Name
			}
		}
	}
	return strings.Join([]string{words, "--help"}, " ") + " explains it"
}
