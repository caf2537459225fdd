package store

import (
	"slices"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

// Waiting is a client that waits for an operator, with what the last person who came with it asked for.
type Waiting struct {
	ClientID    string
	FirstAt     time.Time
	LastAt      time.Time
	People      int64 // how many asked since it was dismissed
	UserID      string
	ResourceID  string
	Scope       scope.Set
	RedirectURI string
	DismissedAt time.Time // zero: never
}

// Open reports whether somebody has asked since the client was dismissed.
func (w *Waiting) Open() bool { return w.LastAt.After(w.DismissedAt) }

// isOpen is the condition for Waiting.Open.
const isOpen = "(w.dismissed_at IS NULL OR w.last_at > w.dismissed_at)"

const waitingColumns = "w.client_id, w.first_at, w.last_at, w.people, w.user_id, w.resource_id, w.scope, " +
	"w.redirect_uri, w.dismissed_at"

// waitingFields are where waitingColumns are scanned into.
func waitingFields(w *Waiting) []any {
	return []any{&w.ClientID, instant{&w.FirstAt}, instant{&w.LastAt}, &w.People, &w.UserID, &w.ResourceID,
		words[scope.Set]{&w.Scope}, &w.RedirectURI, instant{&w.DismissedAt}}
}

// Waiting returns the entry of a client in the inbox, also if it was dismissed, and whether the person is among those
// who asked since. It returns ErrNotFound if nobody ever asked.
func (tx *Tx) Waiting(clientID, userID string) (w *Waiting, asked bool, err error) {
	w, n := new(Waiting), 0
	err = tx.row("SELECT "+waitingColumns+
		", (SELECT COUNT(*) FROM waiting_people p WHERE p.client_id = w.client_id AND p.user_id = $2) "+
		"FROM waiting_clients w WHERE w.client_id = $1", args{clientID, userID},
		append(waitingFields(w), &n)...)
	return w, n > 0, err
}

// Wait enters a client in the inbox, or updates its entry with what the last person asked for. w has all fields but
// FirstAt, LastAt, People and DismissedAt. The client and the person must be stored. first reports whether the person
// had not asked before, or not since the client was dismissed.
func (tx *Tx) Wait(w *Waiting) (first bool, err error) {
	_, err = tx.exec(`INSERT INTO waiting_clients (client_id, first_at, last_at, people, user_id, resource_id, scope,
		redirect_uri) VALUES ($1, $2, $2, 0, $3, $4, $5, $6) ON CONFLICT (client_id) DO UPDATE
		SET last_at = excluded.last_at, user_id = excluded.user_id, resource_id = excluded.resource_id,
		scope = excluded.scope, redirect_uri = excluded.redirect_uri`,
		args{w.ClientID, micros(tx.now), w.UserID, w.ResourceID, w.Scope.String(), w.RedirectURI})
	if err != nil {
		return false, err
	}
	n, err := tx.exec("INSERT INTO waiting_people (client_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		args{w.ClientID, w.UserID})
	if err != nil || n == 0 {
		return false, err
	}
	return true, tx.one("UPDATE waiting_clients SET people = people + 1 WHERE client_id = $1", args{w.ClientID})
}

// WaitingOf returns the number of clients that wait because the person asked.
func (tx *Tx) WaitingOf(userID string) (n int, err error) {
	err = tx.row("SELECT COUNT(*) FROM waiting_people WHERE user_id = $1", args{userID}, &n)
	return n, err
}

// WaitingCount returns the number of clients in the inbox.
func (tx *Tx) WaitingCount() (n int, err error) {
	err = tx.row("SELECT COUNT(*) FROM waiting_clients w WHERE "+isOpen, nil, &n)
	return n, err
}

// WaitingListing is a client in the inbox, with what its entry refers to.
type WaitingListing struct {
	Waiting
	Client       *oauth.Client
	UserEmail    string // "" if the account was deleted
	UserName     string // "" also if the person has none
	Resource     string // the identifier; "" if the resource was deleted
	ResourceName string
}

// WaitingClients returns a page of the inbox, in the order in which the clients first asked, and the cursor of the next
// page, or "".
func (tx *Tx) WaitingClients(page Page) (waiting []*WaitingListing, next string, err error) {
	w := new(where)
	w.add(isOpen)
	query := "SELECT " + waitingColumns + `, users.email, users.name, resources.identifier, resources.name
		FROM waiting_clients w
		LEFT JOIN users ON users.id = w.user_id LEFT JOIN resources ON resources.id = w.resource_id`
	scanWaiting := func(scan func(...any) error) (*WaitingListing, error) {
		l := new(WaitingListing)
		err := scan(append(waitingFields(&l.Waiting), maybe{&l.UserEmail}, line{&l.UserName},
			maybe{&l.Resource}, line{&l.ResourceName})...)
		return l, err
	}
	waiting, next, err = listing[*WaitingListing]{query: query, at: "w.first_at", id: "w.client_id", scan: scanWaiting,
		key: func(l *WaitingListing) (time.Time, string) { return l.FirstAt, l.ClientID }}.page(tx, w, page)
	if err != nil || len(waiting) == 0 {
		return nil, next, err
	}
	ids := make([]string, len(waiting))
	for i, l := range waiting {
		ids[i] = l.ClientID
	}
	among := new(where)
	among.among("id", ids)
	found, err := all(tx, "SELECT "+clientColumns+" FROM clients"+among.String(), among.args, scanClient)
	if err != nil {
		return nil, "", err
	}
	clients := map[string]*oauth.Client{}
	for _, c := range found {
		clients[c.ID] = c
	}
	for _, l := range waiting {
		l.Client = clients[l.ClientID]
	}
	waiting = slices.DeleteFunc(waiting, func(l *WaitingListing) bool { return l.Client == nil }) // deleted since
	return waiting, next, nil
}

// Dismiss takes a client out of the inbox until somebody asks again. It returns false if the client is not in the
// inbox.
func (tx *Tx) Dismiss(clientID string) (bool, error) {
	n, err := tx.exec("UPDATE waiting_clients AS w SET dismissed_at = $2, people = 0 WHERE client_id = $1 AND "+isOpen,
		args{clientID, micros(tx.now)})
	if err != nil || n == 0 {
		return false, err
	}
	_, err = tx.exec("DELETE FROM waiting_people WHERE client_id = $1", args{clientID})
	return true, err
}

// EndWaiting deletes the entry of a client from the inbox, because an operator decided about it. People whom the
// decision does not cover ask again.
func (tx *Tx) EndWaiting(clientID string) error {
	_, err := tx.exec("DELETE FROM waiting_clients WHERE client_id = $1", args{clientID})
	return err
}

// Approval is the kind of approval that lets a person allow a client something.
type Approval string

// The kinds, other than that for everybody, which is Client.ApprovedAt. "" is none.
const (
	ForGroup Approval = "group" // the person is in a group that may use the client
	Once     Approval = "once"  // the person may allow it something once
)

// Approval returns the approval that the person has for a client, and that is not for everybody. One that is for one
// time counts until it is spent, and then for the authorization request that spent it.
func (tx *Tx) Approval(clientID, userID, requestID string) (Approval, error) {
	var groups, once int
	err := tx.row(`SELECT (SELECT COUNT(*) FROM (
			SELECT 1 FROM client_approvals a JOIN group_members m ON m.group_id = a.group_id
			WHERE a.client_id = $1 AND m.user_id = $2 LIMIT 1) AS one),
		(SELECT COUNT(*) FROM client_approvals
			WHERE client_id = $1 AND user_id = $2 AND expires_at > $4 AND spent_on IN ('', $3))`,
		args{clientID, userID, requestID, micros(tx.now)}, &groups, &once)
	switch {
	case err != nil:
		return "", err
	case groups > 0:
		return ForGroup, nil
	case once > 0:
		return Once, nil
	}
	return "", nil
}

// ApproveForGroup lets the members of a group allow a client something. It changes nothing if they may already.
func (tx *Tx) ApproveForGroup(clientID, groupID string) error {
	_, err := tx.exec("INSERT INTO client_approvals (id, client_id, group_id, created_at, spent_on) "+
		"VALUES ($1, $2, $3, $4, '') ON CONFLICT DO NOTHING",
		args{oauth.NewID("apr_"), clientID, groupID, micros(tx.now)})
	return err
}

// ApproveOnce lets a person allow a client something once, before expiresAt.
func (tx *Tx) ApproveOnce(clientID, userID string, expiresAt time.Time) error {
	_, err := tx.exec(`INSERT INTO client_approvals (id, client_id, user_id, created_at, expires_at, spent_on)
		VALUES ($1, $2, $3, $4, $5, '')
		ON CONFLICT (client_id, user_id) WHERE user_id IS NOT NULL DO UPDATE SET created_at = excluded.created_at,
		expires_at = excluded.expires_at, spent_on = ''`,
		args{oauth.NewID("apr_"), clientID, userID, micros(tx.now), expiresAt.UnixMicro()})
	return err
}

// SpendApproval spends the approval of a person for one time on an authorization request, for which it counts until
// expiresAt. It returns false if the approval was spent on another before, or has expired. One statement decides, so an
// approval is spent only once.
func (tx *Tx) SpendApproval(clientID, userID, requestID string, expiresAt time.Time) (bool, error) {
	n, err := tx.exec(`UPDATE client_approvals
		SET spent_on = $3, expires_at = CASE WHEN expires_at > $5 THEN expires_at ELSE $5 END
		WHERE client_id = $1 AND user_id = $2 AND expires_at > $4 AND spent_on = ''`,
		args{clientID, userID, requestID, micros(tx.now), expiresAt.UnixMicro()})
	return n > 0, err
}

// ApprovedGroups returns the names of the groups whose members may allow each of the clients something, in alphabetical
// order.
func (tx *Tx) ApprovedGroups(clientIDs ...string) (map[string][]string, error) {
	groups := map[string][]string{}
	if len(clientIDs) == 0 {
		return groups, nil
	}
	w := new(where)
	w.among("a.client_id", clientIDs)
	query := "SELECT a.client_id, g.name FROM client_approvals a JOIN groups g ON g.id = a.group_id"
	err := tx.rows(query+w.String()+" ORDER BY g.name", w.args, func(scan func(...any) error) error {
		var id, name string
		err := scan(&id, &name)
		groups[id] = append(groups[id], name)
		return err
	})
	return groups, err
}

// InInbox returns which of the clients are in the inbox.
func (tx *Tx) InInbox(clientIDs ...string) (map[string]bool, error) {
	waits := map[string]bool{}
	if len(clientIDs) == 0 {
		return waits, nil
	}
	w := new(where)
	w.among("w.client_id", clientIDs)
	w.add(isOpen)
	err := tx.rows("SELECT w.client_id FROM waiting_clients w"+w.String(), w.args, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		waits[id] = true
		return err
	})
	return waits, err
}

// EndGroupApproval deletes the approval of a client for the members of a group. It returns false if there is none.
func (tx *Tx) EndGroupApproval(clientID, groupID string) (bool, error) {
	n, err := tx.exec("DELETE FROM client_approvals WHERE client_id = $1 AND group_id = $2", args{clientID, groupID})
	return n > 0, err
}

// EndApprovals deletes the approvals of a client that are not for everybody, and returns how many there were.
func (tx *Tx) EndApprovals(clientID string) (int64, error) {
	return tx.exec("DELETE FROM client_approvals WHERE client_id = $1", args{clientID})
}

const blockColumns = "id, client_id, name, reason, marks, created_at"

// CreateBlock stores a block with all its fields. It returns ErrConflict if the client is blocked already.
func (tx *Tx) CreateBlock(b *oauth.Block) error {
	marks, err := asJSON(b.Marks)
	if err != nil {
		return err
	}
	tx.Touch(Clients)
	tx.ended(OfClient, b.ClientID)
	tx.ended(Everything, "")
	return tx.create("INSERT INTO client_blocks ("+blockColumns+
		") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
		args{b.ID, b.ClientID, b.Name, b.Reason, marks, b.CreatedAt.UnixMicro()})
}

// DeleteBlock deletes a block. It returns ErrNotFound if there is no such block.
func (tx *Tx) DeleteBlock(id string) error {
	tx.Touch(Clients)
	tx.ended(Everything, "")
	return tx.one("DELETE FROM client_blocks WHERE id = $1", args{id})
}

// Block returns the block with the given id, or of the client with the given id, or ErrNotFound.
func (tx *Tx) Block(idOrClientID string) (*oauth.Block, error) {
	found, err := all(tx, "SELECT "+blockColumns+" FROM client_blocks WHERE id = $1 OR client_id = $1",
		args{idOrClientID}, scanBlock)
	return only(found, err)
}

// Blocks returns a page of the blocks and the cursor of the next page, or "".
func (tx *Tx) Blocks(page Page) (blocks []*oauth.Block, next string, err error) {
	return listing[*oauth.Block]{query: "SELECT " + blockColumns + " FROM client_blocks",
		at: "created_at", id: "id", scan: scanBlock,
		key: func(b *oauth.Block) (time.Time, string) { return b.CreatedAt, b.ID }}.page(tx, new(where), page)
}

// allBlocks returns all blocks. There are few, because only operators make them.
func (tx *Tx) allBlocks() ([]*oauth.Block, error) {
	return all(tx, "SELECT "+blockColumns+" FROM client_blocks ORDER BY created_at, id", nil, scanBlock)
}

// BlocksNow returns all blocks as they are in this transaction, from memory if they are not older there. They are
// shared: do not change them.
func (tx *Tx) BlocksNow() ([]*oauth.Block, error) {
	version, err := tx.readVersion(Clients)
	if err != nil {
		return nil, err
	}
	return tx.blocksAt(version)
}

// blocksAt is like clientAt, for all blocks.
func (tx *Tx) blocksAt(version int64) ([]*oauth.Block, error) {
	known := tx.db.blocks.value.Load()
	if known != nil && known.version >= version && !slices.Contains(tx.touched, Clients) {
		return known.value, nil
	}
	blocks, err := tx.allBlocks()
	if err == nil && tx.readOnly {
		tx.db.blocks.value.CompareAndSwap(known, &versioned[[]*oauth.Block]{blocks, version})
	}
	return blocks, err
}

func scanBlock(scan func(...any) error) (*oauth.Block, error) {
	b := new(oauth.Block)
	err := scan(&b.ID, &b.ClientID, &b.Name, &b.Reason, object{&b.Marks}, instant{&b.CreatedAt})
	return b, err
}
