package store

import (
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Names are the names of clients, users and resources, by the id or identifier that an event or a grant has. Records
// that do not exist are left out.
type Names struct {
	Clients   map[string]string // by client id
	Emails    map[string]string // of users, by id
	People    map[string]string // names of users that have one, by id
	Resources map[string]string // by identifier
}

// Names returns the names of the clients and the users with these ids, and of the resources with these identifiers. It
// asks the database once, however many they are.
func (tx *Tx) Names(clients, users, resources []string) (Names, error) {
	names := Names{map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}}
	var parts []string
	var a args
	for _, part := range []struct {
		query string
		keys  []string
	}{
		{"SELECT 'client', id, metadata, '' FROM clients WHERE id IN (", clients},
		{"SELECT 'user', id, email, name FROM users WHERE id IN (", users},
		{"SELECT 'resource', identifier, name, '' FROM resources WHERE identifier IN (", resources},
	} {
		var places []string
		for _, key := range part.keys {
			a = append(a, key)
			places = append(places, "$"+strconv.Itoa(len(a)))
		}
		if len(places) > 0 {
			parts = append(parts, part.query+strings.Join(places, ", ")+")")
		}
	}
	if len(parts) == 0 {
		return names, nil
	}
	err := tx.rows(strings.Join(parts, " UNION ALL "), a, func(scan func(...any) error) error {
		var kind, key, name, called string
		if err := scan(&kind, &key, &name, line{&called}); err != nil {
			return err
		}
		switch kind {
		case "client":
			var metadata oauth.Metadata
			if err := (object{&metadata}).Scan(name); err != nil {
				return err
			}
			names.Clients[key] = metadata.Name
		case "user":
			names.Emails[key] = name
			if called != "" {
				names.People[key] = called
			}
		case "resource":
			names.Resources[key] = identity.Line(name)
		}
		return nil
	})
	return names, err
}
