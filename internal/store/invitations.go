package store

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
)

const invitationColumns = "user_id, email, role, hash, inviter_type, inviter_id, inviter_name, created_at, expires_at"

// Invite stores an invitation with all its fields but Groups; InviteInto stores those. An invitation of the same
// address, compared by identity.EmailKey, becomes this one: it keeps its ID and CreatedAt, which Invite sets, and
// nothing else.
func (tx *Tx) Invite(i *identity.Invitation) error {
	err := tx.row("INSERT INTO invitations ("+invitationColumns+", email_key) "+
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "+
		"ON CONFLICT (email_key) DO UPDATE SET email = $2, role = $3, hash = $4, inviter_type = $5, inviter_id = $6, "+
		"inviter_name = $7, expires_at = $9 RETURNING user_id, created_at",
		args{i.ID, i.Email, string(i.Role), i.Hash, string(i.Inviter.Type), i.Inviter.ID, i.Inviter.Name,
			i.CreatedAt.UnixMicro(), i.ExpiresAt.UnixMicro(), identity.EmailKey(i.Email)}, &i.ID, instant{&i.CreatedAt})
	if err != nil {
		return err
	}
	_, err = tx.exec("DELETE FROM invitation_groups WHERE user_id = $1", args{i.ID})
	return err
}

// InviteInto adds a group to an invitation. Both must exist. If the group is deleted, the invitation forgets it.
func (tx *Tx) InviteInto(groupID, invitationID string) error {
	_, err := tx.exec("INSERT INTO invitation_groups (group_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
		args{groupID, invitationID})
	return err
}

// LockInvitedGroups returns the groups of an invitation, in alphabetical order, and keeps other transactions from
// changing or deleting them until this one ends. A group that was deleted since is not among them, and neither is
// another one of its name.
func (tx *Tx) LockInvitedGroups(invitationID string) (groups []*identity.Group, err error) {
	var ids []string
	err = tx.rows("SELECT g.id FROM invitation_groups i JOIN groups g ON g.id = i.group_id WHERE i.user_id = $1 "+
		"ORDER BY g.name", args{invitationID}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	for _, id := range ids { // one after another, because a statement for all would lock them in any order
		if err != nil {
			return nil, err
		}
		var found []*identity.Group
		found, err = all(tx, "UPDATE groups SET id = id WHERE id = $1 RETURNING "+groupColumns, args{id}, scanGroup)
		groups = append(groups, found...)
	}
	return groups, err
}

// Invitation returns the invitation with the given id or, if there is none, of the given address. It returns
// ErrNotFound if there is neither.
func (tx *Tx) Invitation(idOrEmail string) (*identity.Invitation, error) {
	i, err := tx.invitation("user_id = $1", idOrEmail)
	if errors.Is(err, ErrNotFound) {
		return tx.invitation("email_key = $1", identity.EmailKey(idOrEmail))
	}
	return i, err
}

// InvitationByToken returns the invitation whose newest link has the token with the given hash, or ErrNotFound.
func (tx *Tx) InvitationByToken(hash string) (*identity.Invitation, error) {
	return tx.invitation("hash = $1", hash)
}

func (tx *Tx) invitation(condition, value string) (*identity.Invitation, error) {
	found, err := all(tx, "SELECT "+invitationColumns+" FROM invitations WHERE "+condition, args{value}, scanInvitation)
	if err == nil {
		err = tx.invitationGroups(found)
	}
	if err != nil {
		return nil, err
	}
	return only(found, nil)
}

// Invitations returns a page of the invitations and the cursor of the next page, or "".
func (tx *Tx) Invitations(page Page) (invitations []*identity.Invitation, next string, err error) {
	invitations, next, err = listing[*identity.Invitation]{query: "SELECT " + invitationColumns + " FROM invitations",
		at: "created_at", id: "user_id", scan: scanInvitation,
		key: func(i *identity.Invitation) (time.Time, string) { return i.CreatedAt, i.ID },
	}.page(tx, new(where), page)
	if err == nil {
		err = tx.invitationGroups(invitations)
	}
	return invitations, next, err
}

// invitationGroups sets the Groups of the invitations, in alphabetical order.
func (tx *Tx) invitationGroups(invitations []*identity.Invitation) error {
	if len(invitations) == 0 {
		return nil
	}
	byID, places, values := map[string]*identity.Invitation{}, []string{}, args{}
	for n, i := range invitations {
		byID[i.ID], places, values = i, append(places, "$"+strconv.Itoa(n+1)), append(values, i.ID)
	}
	return tx.rows("SELECT i.user_id, g.name FROM invitation_groups i JOIN groups g ON g.id = i.group_id "+
		"WHERE i.user_id IN ("+strings.Join(places, ", ")+") ORDER BY g.name", values,
		func(scan func(...any) error) error {
			var id, name string
			err := scan(&id, &name)
			byID[id].Groups = append(byID[id].Groups, name)
			return err
		})
}

// SpendInvitation deletes the invitation whose newest link has the token with the given hash. It returns ErrNotFound if
// there is none, or if it has expired. Only one of several callers gets nil.
func (tx *Tx) SpendInvitation(hash string) error {
	return tx.one("DELETE FROM invitations WHERE hash = $1 AND expires_at > $2", args{hash, micros(tx.now)})
}

// DeleteInvitation deletes an invitation. It returns ErrNotFound if there is none with that id.
func (tx *Tx) DeleteInvitation(id string) error {
	return tx.one("DELETE FROM invitations WHERE user_id = $1", args{id})
}

func scanInvitation(scan func(...any) error) (*identity.Invitation, error) {
	i := new(identity.Invitation)
	err := scan(&i.ID, &i.Email, &i.Role, &i.Hash, &i.Inviter.Type, &i.Inviter.ID, &i.Inviter.Name,
		instant{&i.CreatedAt}, instant{&i.ExpiresAt})
	return i, err
}
