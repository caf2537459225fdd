package ledger

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cardea-auth/cardea/internal/store"
)

// stride is how many levels of the tree lie between those that are stored. A hash in between is computed from at most
// 128 stored ones.
const stride = 8

// frontier has the roots of the full subtrees that a log of some size consists of, the largest first. It is all that is
// needed to append.
type frontier []subtree

type subtree struct {
	level int
	hash  tlog.Hash
}

// append adds a record with the given number, which is the size of f, and calls full for each subtree that becomes
// full.
func (f frontier) append(number int64, hash tlog.Hash,
	full func(level int, number int64, hash tlog.Hash)) frontier {
	f = append(f, subtree{0, hash})
	for n := number + 1; n&1 == 0; n >>= 1 {
		right, left := f[len(f)-1], f[len(f)-2]
		f = append(f[:len(f)-2], subtree{left.level + 1, tlog.NodeHash(left.hash, right.hash)})
		if full != nil {
			full(left.level+1, n>>1-1, f[len(f)-1].hash)
		}
	}
	return f
}

// root returns the root of the log.
func (f frontier) root() tlog.Hash {
	if len(f) == 0 {
		empty, _ := tlog.TreeHash(0, nil) // cannot fail: it reads nothing
		return empty
	}
	root := f[len(f)-1].hash
	for i := len(f) - 2; i >= 0; i-- {
		root = tlog.NodeHash(f[i].hash, root)
	}
	return root
}

// readFrontier returns the frontier of the log when it had the given size, as it is stored.
func readFrontier(ctx context.Context, db *store.DB, size int64) (f frontier, err error) {
	var indexes []int64
	begin := int64(0)
	for level := 62; level >= 0; level-- {
		if size&(1<<level) != 0 {
			f = append(f, subtree{level: level})
			indexes = append(indexes, tlog.StoredHashIndex(level, begin>>level))
			begin += 1 << level
		}
	}
	hashes, err := reader(ctx, db).ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	for i := range f {
		f[i].hash = hashes[i]
	}
	return f, nil
}

// missing says that hashes of the log are not in the database.
type missing struct{ level, first, end int64 }

func (e missing) Error() string {
	return fmt.Sprintf("ledger: hashes of the log are missing: level %d from %d to %d", e.level, e.first, e.end)
}

// reader reads the hashes of the log from the database.
func reader(ctx context.Context, db *store.DB) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		err := db.View(ctx, func(tx *store.Tx) error {
			for i, index := range indexes {
				level, number := tlog.SplitStoredHashIndex(index)
				hash, err := read(tx, level, number)
				if err != nil {
					return err
				}
				hashes[i] = hash
			}
			return nil
		})
		return hashes, err
	})
}

// read returns the hash of a full subtree.
func read(tx *store.Tx, level int, number int64) (tlog.Hash, error) {
	above := level % stride
	stored, first, end := int64(level/stride), number<<above, (number+1)<<above
	texts, err := tx.SealHashes(stored, first, end)
	if err != nil {
		return tlog.Hash{}, err
	}
	if int64(len(texts)) != end-first {
		return tlog.Hash{}, missing{stored, first, end}
	}
	hashes := make([]tlog.Hash, len(texts))
	for i, text := range texts {
		if copy(hashes[i][:], text) != tlog.HashSize || len(text) != tlog.HashSize {
			return tlog.Hash{}, missing{stored, first, end}
		}
	}
	for ; len(hashes) > 1; hashes = hashes[:len(hashes)/2] {
		for i := range len(hashes) / 2 {
			hashes[i] = tlog.NodeHash(hashes[2*i], hashes[2*i+1])
		}
	}
	return hashes[0], nil
}
