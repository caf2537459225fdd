package server

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// vault keeps certificates, their keys and the account at the certificate authority in the database, sealed under the
// master key, so that all nodes have them. It implements certmagic.Storage.
type vault struct {
	db     *store.DB
	master keys.Master

	mu       sync.Mutex
	held     map[string]hold // locks, by name
	released bool
}

// A hold is a lock that this process has, or has lent while it waits.
type hold struct {
	holder string
	stop   context.CancelFunc // of its renewal
	lent   bool
}

const (
	lockLease = time.Minute            // after which the lock of a process that died is free
	lockPoll  = 500 * time.Millisecond // between two looks at a lock that another has
)

func newVault(db *store.DB, master keys.Master) *vault {
	return &vault{db: db, master: master, held: map[string]hold{}}
}

// place is what the content of a file is bound to.
func place(name string) string { return "acme_files " + name + " content" }

// missing makes an error that the library understands of one of the store.
func missing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fs.ErrNotExist
	}
	return err
}

// Store implements certmagic.Storage.
func (v *vault) Store(ctx context.Context, name string, value []byte) error {
	sealed, err := v.master.Seal(place(name), value)
	if err != nil {
		return err
	}
	return v.db.Update(ctx, func(tx *store.Tx) error {
		return tx.PutACMEFile(&store.ACMEFile{Name: name, Content: sealed, Size: int64(len(value))})
	})
}

// Load implements certmagic.Storage.
func (v *vault) Load(ctx context.Context, name string) ([]byte, error) {
	f, err := v.file(ctx, name)
	if err != nil {
		return nil, err
	}
	return v.master.Open(place(name), f.Content)
}

func (v *vault) file(ctx context.Context, name string) (f *store.ACMEFile, err error) {
	err = v.db.View(ctx, func(tx *store.Tx) error {
		f, err = tx.ACMEFile(name)
		return err
	})
	return f, missing(err)
}

func (v *vault) files(ctx context.Context) (files []store.ACMEFile, err error) {
	err = v.db.View(ctx, func(tx *store.Tx) error {
		files, err = tx.ACMEFiles()
		return err
	})
	return files, err
}

// Delete implements certmagic.Storage.
func (v *vault) Delete(ctx context.Context, name string) error {
	return v.db.Update(ctx, func(tx *store.Tx) error { return tx.DeleteACMEFiles(name) })
}

// Exists implements certmagic.Storage.
func (v *vault) Exists(ctx context.Context, name string) bool {
	_, err := v.Stat(ctx, name)
	return err == nil
}

// List implements certmagic.Storage.
func (v *vault) List(ctx context.Context, folder string, recursive bool) (names []string, err error) {
	files, err := v.files(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		rest, below := strings.CutPrefix(f.Name, folder+"/")
		if folder == "" {
			rest, below = f.Name, true
		}
		if !below {
			continue
		}
		for i, c := range rest + "/" {
			if c == '/' && (recursive || !strings.Contains(rest[:i], "/")) {
				names = append(names, strings.TrimSuffix(f.Name, rest)+rest[:i])
			}
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); names == nil {
		return nil, fs.ErrNotExist
	}
	return names, nil
}

// Stat implements certmagic.Storage.
func (v *vault) Stat(ctx context.Context, name string) (certmagic.KeyInfo, error) {
	files, err := v.files(ctx)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	for _, f := range files {
		switch {
		case f.Name == name:
			return certmagic.KeyInfo{Key: name, Modified: f.ModifiedAt, Size: f.Size, IsTerminal: true}, nil
		case strings.HasPrefix(f.Name, name+"/"):
			return certmagic.KeyInfo{Key: name}, nil
		}
	}
	return certmagic.KeyInfo{}, fs.ErrNotExist
}

// Lock implements certmagic.Locker. It waits until the lock is free or ctx ends. The lock is renewed until Unlock.
func (v *vault) Lock(ctx context.Context, name string) error {
	holder := oauth.NewID("lock_")
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		taken, err := v.take(ctx, name, holder)
		if err != nil {
			return err
		}
		if taken {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return v.hold(ctx, name, holder)
}

// hold renews a lock that was taken, until Unlock or lend. After release it gives the lock back and returns an error,
// because nothing would free it any more.
func (v *vault) hold(ctx context.Context, name, holder string) error {
	renewal, stop := context.WithCancel(context.WithoutCancel(ctx))
	v.mu.Lock()
	if v.released {
		v.mu.Unlock()
		stop()
		return errors.Join(context.Canceled, v.free(ctx, name, holder))
	}
	v.held[name] = hold{holder: holder, stop: stop}
	v.mu.Unlock()
	go func() {
		tick := time.NewTicker(lockLease / 3)
		defer tick.Stop()
		for {
			select {
			case <-renewal.Done():
				return
			case <-tick.C:
				_, _ = v.take(renewal, name, holder) // if it fails, it is tried again before the lease ends
			}
		}
	}()
	return nil
}

// issuing is the name of the lock under which the library obtains the certificate of a host.
func issuing(host string) string { return "issue_cert_" + host }

// lend frees a lock for other nodes, because this one has failed under it and waits, perhaps for hours.
func (v *vault) lend(ctx context.Context, name string) {
	v.mu.Lock()
	h, held := v.held[name]
	if held && !h.lent {
		h.stop()
		h.lent = true
		v.held[name] = h
	}
	v.mu.Unlock()
	if held {
		_ = v.free(ctx, name, h.holder) // its lease ends soon
	}
}

// takeBack takes a lock that was lent. It returns an error if another node has it.
func (v *vault) takeBack(ctx context.Context, name string) error {
	v.mu.Lock()
	h := v.held[name]
	v.mu.Unlock()
	if !h.lent {
		return nil
	}
	taken, err := v.take(ctx, name, h.holder)
	if err == nil && !taken {
		err = errors.New("another node obtains the certificate")
	}
	if err != nil {
		return err
	}
	return v.hold(ctx, name, h.holder)
}

func (v *vault) take(ctx context.Context, name, holder string) (taken bool, err error) {
	err = v.db.Update(ctx, func(tx *store.Tx) error {
		taken, err = tx.TakeACMELock(name, holder, lockLease)
		return err
	})
	return taken, err
}

// Unlock implements certmagic.Locker.
func (v *vault) Unlock(ctx context.Context, name string) error {
	v.mu.Lock()
	h, held := v.held[name]
	delete(v.held, name)
	v.mu.Unlock()
	if !held {
		return nil
	}
	h.stop()
	return v.free(ctx, name, h.holder)
}

// free frees a lock, also while the server stops.
func (v *vault) free(ctx context.Context, name, holder string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return v.db.Update(ctx, func(tx *store.Tx) error { return tx.FreeACMELock(name, holder) })
}

// release gives all locks back, so that other nodes need not wait for their leases, and keeps none from now on.
func (v *vault) release(ctx context.Context) {
	v.mu.Lock()
	v.released = true
	var names []string
	for name := range v.held {
		names = append(names, name)
	}
	v.mu.Unlock()
	for _, name := range names {
		_ = v.Unlock(ctx, name) // its lease ends soon
	}
}
