package store

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/scope"
)

const clientColumns = "id, origin, metadata, allowed, resources, resource_server, secret_hash, secret_created_at, " +
	"secret_expires_at, old_secret_hash, old_secret_created_at, old_secret_expires_at, access_ttl, created_at, " +
	"approved_at, disabled_at, used_at, registration_token, changed_at, fetched_at, incarnation, expires_at, version"

// newClients stores clients that take neither the id nor the fingerprint of another.
var newClients = newBulk("clients", clientColumns+", fingerprint, found_version", " ON CONFLICT DO NOTHING")

// NewClient is a client to be created. Fingerprint identifies its metadata, and no two clients have the same; "" means
// none.
type NewClient struct {
	*oauth.Client
	Fingerprint string
}

// CreateClient stores a new client with all its fields, including CreatedAt and up to two secrets, the newest first. It
// sets Version, and Incarnation if that is empty. CreateClient returns ErrConflict if the id or the fingerprint is
// taken.
func (tx *Tx) CreateClient(c *oauth.Client, fingerprint string) error {
	taken, err := tx.CreateClients(NewClient{c, fingerprint})
	if err == nil && len(taken) > 0 {
		return ErrConflict
	}
	return err
}

// CreateClients is CreateClient for several clients, and takes less time than a call for each. It does not store those
// of which the id or the fingerprint is taken, also by one before them, and returns them.
//
// Two transactions that store the same fingerprints in another order would wait for each other on PostgreSQL, so pass
// the clients in the order of their fingerprints.
func (tx *Tx) CreateClients(clients ...NewClient) (taken []NewClient, err error) {
	rows := make(args, 0, len(clients)*newClients.width)
	for _, c := range clients {
		row, err := newClient(c)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row...)
	}
	n, err := newClients.insert(tx.on, tx.db.dialect, rows)
	if err != nil {
		return nil, err
	}
	if int(n) < len(clients) {
		if clients, taken, err = tx.stored(clients); err != nil {
			return nil, err
		}
	}
	names := make([]named, 0, len(clients))
	for _, c := range clients {
		if err := tx.bindClient(c.Client); err != nil {
			return nil, err
		}
		names = append(names, namesOfClient(c.Client))
	}
	return taken, clientNames.add(tx, names...)
}

// newClient returns the values of newClients for c.
func newClient(c NewClient) (args, error) {
	metadata, err := asJSON(c.Metadata)
	if err != nil {
		return nil, err
	}
	if len(c.Secrets) > 2 {
		return nil, errors.New("store: a client must not have more than two secrets")
	}
	if c.Incarnation == "" {
		c.Incarnation = oauth.NewID("inc_")
	}
	c.Version = 1
	var secrets [2]oauth.Secret
	copy(secrets[:], c.Secrets)
	return args{
		c.ID, string(c.Origin), metadata, c.Allowed.String(), strings.Join(c.Resources, " "),
		strings.Join(c.ResourceServers, " "),
		orNull(secrets[0].Hash), micros(secrets[0].CreatedAt), micros(secrets[0].ExpiresAt),
		orNull(secrets[1].Hash), micros(secrets[1].CreatedAt), micros(secrets[1].ExpiresAt),
		c.AccessTTL.Microseconds(), c.CreatedAt.UnixMicro(), micros(c.ApprovedAt), micros(c.DisabledAt),
		micros(c.UsedAt), c.RegistrationToken, micros(c.ChangedAt), micros(c.FetchedAt), c.Incarnation,
		micros(c.ExpiresAt), c.Version, orNull(c.Fingerprint), c.Version,
	}, nil
}

// stored returns which of clients, none of which has the same incarnation as another, are in the database.
func (tx *Tx) stored(clients []NewClient) (there, missing []NewClient, err error) {
	w := new(where)
	ids := make([]string, len(clients))
	for i, c := range clients {
		ids[i] = c.ID
	}
	w.among("id", ids)
	found, err := all(tx, "SELECT incarnation FROM clients"+w.String(), w.args,
		func(scan func(...any) error) (incarnation string, err error) { return incarnation, scan(&incarnation) })
	for _, c := range clients {
		if slices.Contains(found, c.Incarnation) {
			there = append(there, c)
		} else {
			missing = append(missing, c)
		}
	}
	return there, missing, err
}

// bindClient stores the resources by which a client is found.
func (tx *Tx) bindClient(c *oauth.Client) error {
	if len(c.Resources) == 0 {
		return nil
	}
	values := args{c.ID, string(c.Origin), c.CreatedAt.UnixMicro()}
	rows := make([]string, len(c.Resources))
	for i, resource := range c.Resources {
		values = append(values, resource)
		rows[i] = "($1, $2, $3, $" + strconv.Itoa(len(values)) + ")"
	}
	_, err := tx.exec("INSERT INTO client_resources (client_id, origin, created_at, resource) VALUES "+
		strings.Join(rows, ", ")+" ON CONFLICT DO NOTHING", values)
	return err
}

// rebindClient stores the resources by which a client is found, if they are others than before.
func (tx *Tx) rebindClient(before, c *oauth.Client) error {
	if slices.Equal(before.Resources, c.Resources) {
		return nil
	}
	if _, err := tx.exec("DELETE FROM client_resources WHERE client_id = $1", args{c.ID}); err != nil {
		return err
	}
	return tx.bindClient(&oauth.Client{ID: before.ID, Origin: before.Origin, CreatedAt: before.CreatedAt,
		Resources: c.Resources})
}

// renameClient stores the names by which a client is searched, if its name is another than before.
func (tx *Tx) renameClient(before, c *oauth.Client) error {
	if before.Name == c.Name {
		return nil
	}
	return clientNames.replace(tx,
		namesOfClient(&oauth.Client{ID: before.ID, Origin: before.Origin, Metadata: c.Metadata}))
}

// Client returns the client with the given id, or ErrNotFound.
func (tx *Tx) Client(id string) (*oauth.Client, error) {
	found, err := all(tx, "SELECT "+clientColumns+" FROM clients WHERE id = $1", args{id}, scanClient)
	return only(found, err)
}

// ClientByFingerprint returns the client that was created with fingerprint, or ErrNotFound.
func (tx *Tx) ClientByFingerprint(fingerprint string) (*oauth.Client, error) {
	found, err := all(tx, "SELECT "+clientColumns+" FROM clients WHERE fingerprint = $1", args{fingerprint}, scanClient)
	return only(found, err)
}

// ClientFilter selects clients. The zero ClientFilter selects all.
type ClientFilter struct {
	Origin   oauth.Origin // "": any
	Resource string       // identifier of a resource to which the client is bound; "": any
}

// Clients returns a page of the clients that filter selects and the cursor of the next page, or "".
func (tx *Tx) Clients(filter ClientFilter, page Page) (clients []*oauth.Client, next string, err error) {
	parts := ofOrigin("origin", filter.Origin)
	switch {
	case len(parts) == 0:
		return nil, "", nil
	case page.Begins != "":
		return tx.clientsBeginning(filter, page)
	case filter.Resource != "":
		return tx.clientsOf(filter, page)
	}
	return listing[*oauth.Client]{query: "SELECT " + clientColumns + " FROM clients", parts: parts,
		at: "created_at", id: "id", scan: scanClient,
		key: func(c *oauth.Client) (time.Time, string) { return c.CreatedAt, c.ID }}.page(tx, new(where), page)
}

// ofOrigin returns the condition that column is origin, or one for each origin if that is "". Lists of clients have an
// index for each origin but none for all, because a registration would pay for both. An index is used only if its
// condition is in the query word for word.
func ofOrigin(column string, origin oauth.Origin) (parts []string) {
	for _, o := range []oauth.Origin{oauth.ByOperator, oauth.ByRegistration, oauth.ByDocument} {
		if origin == "" || origin == o {
			parts = append(parts, column+" = '"+string(o)+"'")
		}
	}
	return parts
}

// clientsOf is Clients with filter.Resource.
func (tx *Tx) clientsOf(filter ClientFilter, page Page) (clients []*oauth.Client, next string, err error) {
	w := new(where)
	w.add("b.resource = ?", filter.Resource)
	if filter.Origin != "" {
		w.add("b.origin = ?", string(filter.Origin))
	}
	return listing[*oauth.Client]{query: "SELECT " + columnsOf("clients", clientColumns) +
		" FROM client_resources b JOIN clients ON clients.id = b.client_id",
		at: "b.created_at", id: "b.client_id", scan: scanClient,
		key: func(c *oauth.Client) (time.Time, string) { return c.CreatedAt, c.ID }}.page(tx, w, page)
}

// clientsBeginning is Clients with page.Begins, which may also be the whole id of a client. With filter.Resource a page
// may be short, because it has those that are bound to the resource of as many as it may have.
func (tx *Tx) clientsBeginning(filter ClientFilter, page Page) (clients []*oauth.Client, next string, err error) {
	switch c, err := tx.Client(page.Begins); { // its id may not be among the names
	case err == nil && (filter.Origin == "" || filter.Origin == c.Origin) &&
		(filter.Resource == "" || slices.Contains(c.Resources, filter.Resource)):
		return []*oauth.Client{c}, "", nil
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, "", err
	}
	clients, next, err = begun(tx, clientNames, ofOrigin("n.origin", filter.Origin), page, clientColumns, scanClient,
		func(c *oauth.Client) string { return c.ID })
	if filter.Resource != "" {
		clients = slices.DeleteFunc(clients,
			func(c *oauth.Client) bool { return !slices.Contains(c.Resources, filter.Resource) })
	}
	return clients, next, err
}

// UpdateClient stores the fields of c that can change: Metadata, Allowed, Resources, ResourceServers, AccessTTL,
// ApprovedAt, ExpiresAt, RegistrationToken and FetchedAt. If the metadata changes, the client loses its fingerprint; if
// its redirect URIs or keys change, ChangedAt is set. It sets Version, which rises if anything changes. UpdateClient
// returns ErrNotFound if there is no such client.
func (tx *Tx) UpdateClient(c *oauth.Client) error {
	before, err := tx.Client(c.ID)
	if err != nil {
		return err
	}
	c.Version = before.Version
	if c.ChangedAt = before.ChangedAt; !c.SameTrust(&before.Metadata) {
		c.ChangedAt = tx.Now()
	}
	old, err := changeable(before)
	if err != nil {
		return err
	}
	values, err := changeable(c)
	if err != nil || slices.Equal(values, old) {
		return err
	}
	c.Version++
	if err := errors.Join(tx.renameClient(before, c), tx.rebindClient(before, c)); err != nil {
		return err
	}
	tx.Touch(Clients)
	tx.ended(OfClient, c.ID)
	return tx.one(`UPDATE clients SET metadata = $2, allowed = $3, resources = $4, access_ttl = $5, approved_at = $6,
		registration_token = $7, changed_at = $8, fetched_at = $9, expires_at = $10, resource_server = $11,
		fingerprint = CASE WHEN metadata = $2 THEN fingerprint END`+risen("1")+" WHERE id = $1", values)
}

// risen returns the assignments by which the version of a client rises by an expression. The version for which its
// names and resources are stored rises with it, so that it stays behind if it is.
func risen(by string) string {
	return ", version = version + " + by + ", found_version = found_version + " + by
}

// find stores the names and the resources by which clients are found, of those that a program of the previous release
// has made or changed. An index finds these: mostly there is none.
func (db *DB) find(ctx context.Context) error {
	for {
		var ids []string
		err := db.View(ctx, func(tx *Tx) (err error) {
			ids, err = all(tx, "SELECT id FROM clients WHERE found_version <> version LIMIT "+
				strconv.Itoa(sweepBatch), nil,
				func(scan func(...any) error) (id string, err error) { return id, scan(&id) })
			return err
		})
		for _, id := range ids {
			if err == nil {
				err = db.Update(ctx, func(tx *Tx) error { return tx.findClient(id) })
			}
		}
		if err != nil || len(ids) == 0 {
			return err
		}
	}
}

// findClient stores by what a client is found. It does nothing if the client is gone.
func (tx *Tx) findClient(id string) error {
	c, err := tx.LockClient(id)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = clientNames.replace(tx, namesOfClient(c))
	}
	if err == nil {
		_, err = tx.exec("DELETE FROM client_resources WHERE client_id = $1", args{id})
	}
	if err == nil {
		err = tx.bindClient(c)
	}
	if err != nil {
		return err
	}
	return tx.one("UPDATE clients SET found_version = version WHERE id = $1", args{id})
}

// changeable returns the id of c and the values that UpdateClient stores, in the order of its statement.
func changeable(c *oauth.Client) (args, error) {
	metadata, err := asJSON(c.Metadata)
	return args{
		c.ID, metadata, c.Allowed.String(), strings.Join(c.Resources, " "), c.AccessTTL.Microseconds(),
		micros(c.ApprovedAt), c.RegistrationToken, micros(c.ChangedAt), micros(c.FetchedAt),
		micros(c.ExpiresAt), strings.Join(c.ResourceServers, " "),
	}, err
}

// ReplaceMetadata stores c.Metadata and c.FetchedAt. It changes nothing that an operator has set, except that
// every approval ends unless keepApproval is true. If the redirect URIs or keys change, it sets ChangedAt. The version
// rises if the metadata changes or the approval ends. ReplaceMetadata returns ErrNotFound if there is no such client.
func (tx *Tx) ReplaceMetadata(c *oauth.Client, keepApproval bool) error {
	before, err := tx.Client(c.ID)
	if err != nil {
		return err
	}
	changedAt := before.ChangedAt
	if !before.SameTrust(&c.Metadata) {
		changedAt = tx.Now()
	}
	metadata, err := asJSON(c.Metadata)
	if err != nil {
		return err
	}
	if err := tx.renameClient(before, c); err != nil {
		return err
	}
	tx.Touch(Clients)
	tx.ended(OfClient, c.ID)
	approval := "NULL"
	if keepApproval {
		approval = "approved_at"
	} else if _, err := tx.EndApprovals(c.ID); err != nil {
		return err
	}
	return tx.one("UPDATE clients SET metadata = $2, changed_at = $3, fetched_at = $4, approved_at = "+approval+
		risen("CASE WHEN metadata = $2 AND (approved_at IS NULL) = ("+approval+" IS NULL) THEN 0 ELSE 1 END")+
		" WHERE id = $1", args{c.ID, metadata, micros(changedAt), micros(c.FetchedAt)})
}

// DisableClient disables a client and its grants until EnableClient. If it is disabled already, DisabledAt does not
// change. DisableClient returns ErrNotFound if there is no such client.
func (tx *Tx) DisableClient(id string) error {
	tx.Touch(Clients)
	tx.ended(OfClient, id)
	return tx.one("UPDATE clients SET disabled_at = COALESCE(disabled_at, $2)"+
		risen("CASE WHEN disabled_at IS NULL THEN 1 ELSE 0 END")+" WHERE id = $1", args{id, micros(tx.now)})
}

// EnableClient undoes DisableClient. It returns ErrNotFound if there is no such client.
func (tx *Tx) EnableClient(id string) error {
	tx.Touch(Clients)
	tx.ended(OfClient, id)
	return tx.one("UPDATE clients SET disabled_at = NULL"+
		risen("CASE WHEN disabled_at IS NULL THEN 0 ELSE 1 END")+" WHERE id = $1", args{id})
}

// DeleteClient deletes a client with its secrets and revokes its grants with the reason "client_deleted". It returns
// ErrNotFound if there is no such client.
func (tx *Tx) DeleteClient(id string) error {
	tx.Touch(Clients)
	if err := tx.one("DELETE FROM clients WHERE id = $1", args{id}); err != nil {
		return err
	}
	return tx.revokeGrants(OfClient, id, "client_deleted")
}

// ReplaceSecret gives a client a new secret, of which it stores the hash. The secret that was the newest expires at
// oldExpiresAt, or earlier if it was to; an older one ends at once. ReplaceSecret returns ErrNotFound if there is no
// such client.
func (tx *Tx) ReplaceSecret(id, newHash string, oldExpiresAt time.Time) error {
	tx.Touch(Clients)
	return tx.one(`UPDATE clients SET old_secret_hash = secret_hash, old_secret_created_at = secret_created_at,
		old_secret_expires_at = CASE WHEN secret_expires_at < $4 THEN secret_expires_at ELSE $4 END,
		secret_hash = $2, secret_created_at = $3, secret_expires_at = NULL`+risen("1")+" WHERE id = $1",
		args{id, newHash, micros(tx.now), oldExpiresAt.UnixMicro()})
}

// newest is the number of events of a client that ClientsLastUsed looks at.
const newest = 50

// ClientsLastUsed returns when each of the clients last got a token, by its newest events. A client that got none, or
// whose newest events are all of something else, is left out.
func (tx *Tx) ClientsLastUsed(ids ...string) (map[string]time.Time, error) {
	used := make(map[string]time.Time, len(ids))
	if len(ids) == 0 {
		return used, nil
	}
	w := new(where)
	w.among("clients.id", ids)
	// PostgreSQL reads events until it finds one: mostly the first.
	query := "SELECT clients.id, (SELECT at FROM (SELECT at, action, outcome FROM events " +
		"WHERE client_id = clients.id AND client_id <> '' ORDER BY at DESC LIMIT " + strconv.Itoa(newest) +
		") AS newest WHERE action = 'token.request' AND outcome = 'allowed' ORDER BY at DESC LIMIT 1) FROM clients"
	err := tx.rows(query+w.String(), w.args, func(scan func(...any) error) error {
		var id string
		var at time.Time
		err := scan(&id, instant{&at})
		if !at.IsZero() {
			used[id] = at
		}
		return err
	})
	return used, err
}

// ClientUsed records that a client completed its first flow. It does nothing for later flows and unknown clients. Other
// processes see the change when they next load the client.
func (tx *Tx) ClientUsed(id string) error {
	n, err := tx.exec("UPDATE clients SET used_at = $2 WHERE id = $1 AND used_at IS NULL", args{id, micros(tx.now)})
	if n > 0 {
		tx.used = append(tx.used, id)
	}
	return err
}

// unused is the condition for a client that has not been used yet: it has not completed a flow, and no operator
// created, approved or disabled it.
const unused = "used_at IS NULL AND approved_at IS NULL AND disabled_at IS NULL AND origin <> 'operator'"

// forgettable is the condition for an unused client that neither waits for an operator nor may be used by some.
const forgettable = unused + " AND NOT EXISTS (SELECT 1 FROM waiting_clients w WHERE w.client_id = clients.id AND " +
	isOpen + ") AND NOT EXISTS (SELECT 1 FROM client_approvals a WHERE a.client_id = clients.id)"

// UnusedClients returns the number of clients that were not created, approved or disabled by an operator and have not
// completed a flow.
func (tx *Tx) UnusedClients() (n int, err error) {
	err = tx.row("SELECT COUNT(*) FROM clients WHERE "+unused, nil, &n)
	return n, err
}

// cameAt is the time at which an unused client last registered.
const cameAt = "COALESCE(renewed_at, created_at)"

// RenewalDue reports whether an unused client (see UnusedClients) last registered before the given time.
func (tx *Tx) RenewalDue(id string, before time.Time) (bool, error) {
	var n int
	err := tx.row("SELECT COUNT(*) FROM clients WHERE id = $1 AND "+unused+" AND "+cameAt+" < $2",
		args{id, before.UnixMicro()}, &n)
	return n > 0, err
}

// RenewClient records that a client registered again, so that it is kept as long as a new one. It returns ErrNotFound
// if there is no such client.
func (tx *Tx) RenewClient(id string) error {
	return tx.one("UPDATE clients SET renewed_at = $2 WHERE id = $1", args{id, micros(tx.now)})
}

// ForgetUnusedClients deletes at most limit unused clients (see UnusedClients) that last registered before the given
// time, the oldest first, and returns how many it deleted. It keeps those that wait for an operator, and those that
// some people may use.
func (tx *Tx) ForgetUnusedClients(before time.Time, limit int) (int, error) {
	n, err := tx.exec("DELETE FROM clients WHERE "+unused+" AND id IN (SELECT id FROM clients WHERE "+forgettable+
		" AND "+cameAt+" < $1 ORDER BY "+cameAt+" LIMIT $2)",
		args{before.UnixMicro(), limit})
	if n > 0 {
		tx.Touch(Clients)
	}
	return int(n), err
}

func scanClient(scan func(...any) error) (*oauth.Client, error) {
	c := new(oauth.Client)
	var secrets [2]oauth.Secret
	err := scan(&c.ID, &c.Origin, object{&c.Metadata}, words[scope.Set]{&c.Allowed}, words[[]string]{&c.Resources},
		words[[]string]{&c.ResourceServers},
		maybe{&secrets[0].Hash}, instant{&secrets[0].CreatedAt}, instant{&secrets[0].ExpiresAt},
		maybe{&secrets[1].Hash}, instant{&secrets[1].CreatedAt}, instant{&secrets[1].ExpiresAt},
		span{&c.AccessTTL}, instant{&c.CreatedAt}, instant{&c.ApprovedAt}, instant{&c.DisabledAt}, instant{&c.UsedAt},
		&c.RegistrationToken, instant{&c.ChangedAt}, instant{&c.FetchedAt}, &c.Incarnation,
		instant{&c.ExpiresAt}, &c.Version)
	for _, secret := range secrets {
		if secret.Hash != "" {
			c.Secrets = append(c.Secrets, secret)
		}
	}
	return c, err
}
