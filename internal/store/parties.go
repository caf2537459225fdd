package store

import (
	"database/sql"
	"fmt"
	"reflect"
	"strings"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Parties are those whom a token, a code or a consent is about, as they are stored at
// one moment; nil is what is not there. Whether they still count is for
// client.Directory to say.
type Parties struct {
	Client   *oauth.Client
	Resource *oauth.Resource
	User     *identity.User
}

const joinParties = ` LEFT JOIN clients AS c ON c.id = %s LEFT JOIN resources AS r ON %s LEFT JOIN users AS u ON u.id = %s`

var (
	partyColumns = prefixed("c", clientColumns) + ", " + prefixed("r", resourceColumns) + ", " + prefixed("u", userColumns)
	selectNamed  = "SELECT " + partyColumns + " FROM (SELECT 1 AS one) AS one" + fmt.Sprintf(joinParties, "$1", "(r.id = $2 OR r.identifier = $2)", "$3")
	selectGrant  = "SELECT " + grantColumns + ", " + partyColumns + " FROM grants" +
		fmt.Sprintf(joinParties, "grants.client_id", "r.id = grants.resource_id", "grants.user_id") + " WHERE grants.id = $1"
)

// prefixed returns a list of columns, each with the name of its table.
func prefixed(table, columns string) string {
	return table + "." + strings.ReplaceAll(columns, ", ", ", "+table+".")
}

// Parties returns the client with the given id, the resource with the given id or
// identifier, and the person with the given id, in one statement.
func (tx *Tx) Parties(clientID, resource, userID string) (*Parties, error) {
	p := new(partyRow)
	if err := tx.row(selectNamed, args{clientID, resource, userID}, p.fields()...); err != nil {
		return nil, err
	}
	return p.parties(), nil
}

// GrantParties returns the grant with the given id, live or not, and its parties, in
// one statement. ErrNotFound if there is no such grant; parties may be gone.
func (tx *Tx) GrantParties(id string) (*oauth.Grant, *Parties, error) {
	g, p := new(oauth.Grant), new(partyRow)
	if err := tx.row(selectGrant, args{id}, append(grantFields(g), p.fields()...)...); err != nil {
		return nil, nil, err
	}
	return g, p.parties(), nil
}

// partyRow is what Parties are scanned to.
type partyRow struct {
	client   clientRow
	resource oauth.Resource
	user     identity.User
}

func (p *partyRow) fields() []any {
	fields := append(p.client.fields(), resourceFields(&p.resource)...)
	fields = append(fields, userFields(&p.user)...)
	for i := range fields {
		fields[i] = joined{fields[i]}
	}
	return fields
}

func (p *partyRow) parties() *Parties {
	parties := new(Parties)
	if p.client.ID != "" {
		parties.Client = p.client.client()
	}
	if p.resource.ID != "" {
		parties.Resource = &p.resource
	}
	if p.user.ID != "" {
		parties.User = &p.user
	}
	return parties
}

// joined scans a column of a row that may not be there into what to points to, which
// then stays as it is.
type joined struct{ to any }

// Scan implements sql.Scanner.
func (j joined) Scan(src any) error {
	if src == nil {
		return nil
	}
	if scanner, ok := j.to.(sql.Scanner); ok {
		return scanner.Scan(src)
	}
	text, ok := src.(string)
	if !ok {
		return fmt.Errorf("a text is stored as %T", src)
	}
	reflect.ValueOf(j.to).Elem().SetString(text)
	return nil
}
