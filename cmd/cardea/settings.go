package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/store"
)

// settings has the flags that every command takes. They override the file and the environment.
type settings struct {
	ConfigFile string  `name:"config" placeholder:"FILE" help:"Configuration file (YAML). The default is CARDEA_CONFIG."`
	DataDir    *string `placeholder:"DIR" help:"Folder of the SQLite file and the master key."`
	Database   *string `placeholder:"URL" help:"sqlite:PATH or postgres://HOST/NAME, without a password."`
	Issuer     *string `placeholder:"URL" help:"Public URL of the server."`
	Server     string  `placeholder:"URL" help:"Run a command for operators at the server with this public URL, over its Admin API. The default is CARDEA_SERVER. The credentials are CARDEA_CLIENT_ID and CARDEA_CLIENT_SECRET, or CARDEA_TOKEN."`
}

// load reads the configuration. flags has the values of flags that only this command takes.
func (sh *shell) load(flags map[string]string) (*config.Loaded, error) {
	if server := sh.server(); server != "" {
		return nil, usageError("this command does not work over the Admin API of " + server +
			"; run it on that machine, without --server and CARDEA_SERVER")
	}
	if flags == nil {
		flags = map[string]string{}
	}
	for name, value := range map[string]*string{"data_dir": sh.DataDir, "database": sh.Database, "issuer": sh.Issuer} {
		if value != nil {
			flags[name] = *value
		}
	}
	if config.HoldsPassword(flags["database"]) {
		return nil, usageError("--database holds a password, and every user of this machine can read a command line; " +
			"set CARDEA_DATABASE, or database in the file, instead")
	}
	file := cmp.Or(sh.ConfigFile, sh.variable("CARDEA_CONFIG"))
	sources := config.Sources{File: file, Environ: sh.environ, Flags: flags}
	c, err := config.Load(sources)
	if err != nil {
		sources.Flags = nil
		if _, without := config.Load(sources); without == nil { // the flags are at fault
			err = usageError(err.Error())
		}
		return nil, err
	}
	for _, warning := range c.Warnings {
		sh.warn(warning)
	}
	return c, nil
}

// unread returns a sentence if a file with the usual name lies here and is not read, because no source names it.
func (sh *shell) unread() string {
	const usual = "cardea.yaml"
	if info, err := os.Stat(usual); err != nil || !info.Mode().IsRegular() ||
		cmp.Or(sh.ConfigFile, sh.variable("CARDEA_CONFIG")) != "" {
		return ""
	}
	return usual + " in this folder is not read, because nothing names it; add --config " + usual +
		", or set CARDEA_CONFIG=" + usual
}

// variable returns the value of an environment variable, "" if it is not set.
func (sh *shell) variable(name string) (value string) {
	for _, variable := range sh.environ {
		if text, found := strings.CutPrefix(variable, name+"="); found {
			value = text
		}
	}
	return value
}

// installation is a configured Cardea with its database open.
type installation struct {
	config config.Config
	db     *store.DB
	log    *slog.Logger // of warnings
}

// open opens the configured database and brings its schema up to date. The caller closes it.
func (sh *shell) open(ctx context.Context) (*installation, error) {
	c, err := sh.load(nil)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.NewTextHandler(sh.errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	db, err := store.Open(ctx, c.Database, store.Options{Logger: quiet})
	if err != nil {
		return nil, err
	}
	applied, err := db.Migrate(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if store.Begins(applied) {
		fmt.Fprintln(sh.errs, "cardea: note: this is a new, empty database; cardea config print says where")
	}
	server.LeaveNotices(c.Config, db)
	return &installation{config: c.Config, db: db, log: quiet}, nil
}

// close closes the database. It first waits until the servers that run on it have seen what the command changed, so
// that the change holds when the command returns.
func (i *installation) close() error {
	i.db.AwaitOthers()
	return i.db.Close()
}

// ring returns the signing keys and the key of refresh tokens. It needs the master key of the installation.
func (i *installation) ring(ctx context.Context, sh *shell) (ring *keys.Ring, refreshKey []byte, err error) {
	master, err := sh.masterKey(ctx, i.config, i.db)
	if err != nil {
		return nil, nil, err
	}
	ring = keys.New(i.db, master)
	return ring, master.RefreshKey(), ring.Check(ctx)
}

// masterKey returns the configured master key. If none is configured, it returns the one in the data folder, and
// creates it on the first start.
func (sh *shell) masterKey(ctx context.Context, c config.Config, db *store.DB) (keys.Master, error) {
	return sh.masterKeyOr(ctx, c, db, keys.OwnMaster)
}

// newServer puts a server together on a migrated database, with the configured master key.
func (sh *shell) newServer(ctx context.Context, c config.Config, db *store.DB, log *slog.Logger) (
	*server.Server, error) {
	master, err := sh.masterKey(ctx, c, db)
	if err != nil {
		return nil, err
	}
	return server.New(ctx, c, db, master, log)
}

// ownMaster is the file in the data folder with the master key that the first start makes if none is configured.
const ownMaster = "master.key"

// masterKeyOr returns the configured master key, or what own returns for the one in the data folder.
func (sh *shell) masterKeyOr(ctx context.Context, c config.Config, db *store.DB,
	own func(context.Context, string, *store.DB) (keys.Master, error)) (keys.Master, error) {
	switch {
	case c.MasterKey != "":
		return keys.ParseMaster(c.MasterKey)
	case c.MasterKeyFile != "":
		return keys.ReadMaster(c.MasterKeyFile, sh.warn)
	}
	return own(ctx, filepath.Join(c.DataDir, ownMaster), db)
}

// warn writes a warning to standard error.
func (sh *shell) warn(sentence string) {
	fmt.Fprintln(sh.errs, "cardea: warning:", plain(sentence))
}
