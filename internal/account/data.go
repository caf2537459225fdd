package account

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// dataRoutes are the page on which a person takes their data along, or deletes them.
func (e *Endpoint) dataRoutes() []web.Route {
	return []web.Route{
		route("/account/data", e.show(e.data), nil),
		route("/account/export", e.show(e.export), nil),
		route("/account/delete", e.show(e.confirmDelete), e.change("delete", e.delete)),
	}
}

func (e *Endpoint) data(v *visit) (web.Answer, error) {
	return v.answer(screen{template: "data.html", title: "Your data", here: "/account/data"})
}

// The parts of an export are bounded, because a person can have any amount of history.
const (
	exportGrants = 1000
	exportEvents = 5000
)

// ownData is what is stored about a person, as they download it. A part that goes on in a later file names that in
// Next.
type ownData struct {
	Account   *ownAccount   `json:"account,omitempty"`
	Elsewhere []ownIdentity `json:"accounts_elsewhere,omitempty"`
	Passkeys  []dataPasskey `json:"passkeys,omitempty"`
	App       *dataApp      `json:"authenticator_app,omitempty"`
	Sessions  []ownSession  `json:"sessions,omitempty"`
	Agents    []ownGrant    `json:"agents,omitempty"`
	Activity  []ownEvent    `json:"activity"`
	Next      string        `json:"next,omitempty"` // the address of the next file
}

type ownAccount struct {
	ID        string        `json:"id"`
	Email     string        `json:"email"`
	Name      string        `json:"name"`
	Role      identity.Role `json:"role,omitempty"`
	Groups    []string      `json:"groups"`
	CreatedAt time.Time     `json:"created_at"`
}

// ownIdentity is an account at an identity provider with which the person signs in.
type ownIdentity struct {
	Provider  string    `json:"provider"`
	Issuer    string    `json:"issuer"`
	Subject   string    `json:"sub"`
	Email     string    `json:"email,omitempty"`
	Groups    []string  `json:"groups,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"last_used_at"`
}

// dataPasskey is a passkey with which the person signs in.
type dataPasskey struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Synced    bool      `json:"synced"` // it is copied to other devices
	AAGUID    string    `json:"aaguid"` // the model of what keeps it
	CreatedAt time.Time `json:"created_at"`
	UsedAt    time.Time `json:"last_used_at,omitzero"`
}

// dataApp is the authenticator app of the person, and how many recovery codes are left.
type dataApp struct {
	CreatedAt     time.Time `json:"created_at"`
	RecoveryCodes int       `json:"recovery_codes_left"`
}

type ownSession struct {
	ID         string    `json:"id"`
	SignedInAt time.Time `json:"signed_in_at"`
	SeenAt     time.Time `json:"last_used_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	AMR        []string  `json:"amr"`
	Address    string    `json:"address"`
	UserAgent  string    `json:"user_agent"`
}

type ownGrant struct {
	ID         string    `json:"id"`
	ClientID   string    `json:"client_id"`
	ClientName string    `json:"client_name"`
	Resource   string    `json:"resource"`
	Scope      string    `json:"scope"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
	LastUsed   string    `json:"last_used_from,omitempty"`
	ExpiresAt  time.Time `json:"expires_at"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
	Reason     string    `json:"revoked_reason,omitempty"`
}

type ownEvent struct {
	audit.Event
	Told string `json:"told"` // as a sentence
}

// export answers GET /account/export with what is stored about the person, as JSON: in the first file the account, its
// sessions and the newest 1,000 of its grants, and in each file up to 5,000 events, the newest first.
func (e *Endpoint) export(v *visit) (web.Answer, error) {
	data := ownData{Activity: []ownEvent{}}
	page := store.Page{After: v.query.Get("after"), Limit: 1000, Newest: true}
	first := page.After == ""
	resources, err := e.DB.Resources(v.Context())
	if err != nil {
		return nil, err
	}
	err = v.view(func(tx *store.Tx) error {
		if first {
			if err := v.exportAccount(tx, &data); err != nil {
				return err
			}
		}
		for len(data.Activity) < exportEvents {
			events, next, err := tx.Events(store.EventFilter{UserID: v.Person.ID}, page)
			if err != nil {
				return err
			}
			told, err := v.tell(tx, resources, events)
			if err != nil {
				return err
			}
			for i, event := range events {
				data.Activity = append(data.Activity, ownEvent{event, told[i]})
			}
			if page.After = next; next == "" {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if page.After != "" {
		data.Next = e.Pages.Base + "/account/export?after=" + url.QueryEscape(page.After)
	}
	body, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		return nil, err
	}
	if first {
		err := v.update(func(tx *store.Tx) error { return tx.Conclude(audit.OwnData(v.Person.ID), nil) })
		if err != nil {
			return nil, err
		}
	}
	return web.Download{Name: "cardea-account.json", Body: append(body, '\n')}, nil
}

// exportAccount adds to data what is stored about the person besides the events.
func (v *visit) exportAccount(tx *store.Tx, data *ownData) error {
	u, err := tx.User(v.Person.ID)
	if err != nil {
		return err
	}
	groups, err := tx.UserGroups(u.ID)
	if err != nil {
		return err
	}
	data.Account = &ownAccount{u.ID, u.Email, u.Name, u.Role, append([]string{}, groups[u.ID]...), u.CreatedAt}
	identities, err := tx.Identities(u.ID)
	if err != nil {
		return err
	}
	for _, i := range identities {
		data.Elsewhere = append(data.Elsewhere,
			ownIdentity{i.Provider, i.Issuer, i.Subject, i.Email, i.Groups, i.CreatedAt, i.UsedAt})
	}
	if err := data.exportFactors(tx, u.ID); err != nil {
		return err
	}
	sessions, _, err := tx.Sessions(store.SessionFilter{UserID: u.ID}, store.Page{Limit: exportGrants, Newest: true})
	if err != nil {
		return err
	}
	for _, s := range sessions {
		data.Sessions = append(data.Sessions,
			ownSession{s.ID, s.SignedInAt, s.SeenAt, s.ExpiresAt, s.AMR, s.Address, s.UserAgent})
	}
	grants, _, err := tx.Grants(store.GrantFilter{UserID: u.ID}, store.Page{Limit: exportGrants, Newest: true})
	for _, g := range grants {
		data.Agents = append(data.Agents, ownGrant{
			ID: g.ID, ClientID: g.ClientID, ClientName: g.ClientName, Resource: g.Resource, Scope: g.Scope.String(),
			CreatedAt: g.CreatedAt, LastUsedAt: g.LastUsedAt, LastUsed: g.RotatedFrom, ExpiresAt: g.ExpiresAt,
			RevokedAt: g.RevokedAt, Reason: g.RevokedReason,
		})
	}
	return err
}

// exportFactors adds to data the passkeys and the authenticator app of a person.
func (data *ownData) exportFactors(tx *store.Tx, userID string) error {
	keys, err := tx.Passkeys(userID)
	if err != nil {
		return err
	}
	for _, k := range keys {
		data.Passkeys = append(data.Passkeys, dataPasskey{k.ID, k.Name, k.BackedUp, k.AAGUID, k.CreatedAt, k.UsedAt})
	}
	app, err := tx.TOTP(userID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	left, err := tx.RecoveryCodes(userID)
	data.App = &dataApp{app.CreatedAt, left}
	return err
}

// confirmDelete returns the page that asks for confirmation before the account is deleted. It requires a recent sign-in
// and, if the account has a second factor, that factor.
func (e *Endpoint) confirmDelete(v *visit) (web.Answer, error) {
	if _, elsewhere, err := v.owner("/account/delete"); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	return v.deletePage("", 0)
}

func (v *visit) deletePage(problem string, status int) (web.Answer, error) {
	return v.answer(screen{template: "delete.html", title: "Delete your account?", here: "/account/data",
		problem: problem, status: status})
}

var (
	errUnconfirmed = oauth.Refuse(oauth.InvalidRequest, "tick the box to say that you want this")
	errLastOwner   = oauth.RefuseStatus(http.StatusConflict, oauth.AccessDenied,
		"you are the last owner of this installation: make another owner first, so that somebody can administer it")
)

// delete deletes the account, which ends its sessions and grants. The last owner cannot be deleted.
func (e *Endpoint) delete(v *visit, form url.Values) (web.Answer, error) {
	if _, elsewhere, err := v.owner("/account/delete"); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	if form.Get("confirm") != "delete" {
		return v.deletePage(sentence(errUnconfirmed), http.StatusBadRequest)
	}
	err := v.update(func(tx *store.Tx) error {
		u, err := tx.LockUser(v.Person.ID)
		if errors.Is(err, store.ErrNotFound) {
			return interaction.ErrSignedOut
		}
		if err != nil {
			return err
		}
		if u.Role == identity.Owner {
			several, err := tx.LockOwners()
			if err != nil {
				return err
			}
			if !several {
				return tx.Conclude(audit.Departure(u.ID), errLastOwner)
			}
		}
		if err := tx.DeleteUser(u.ID); err != nil {
			return err
		}
		return tx.Conclude(audit.Departure(u.ID), nil)
	})
	switch {
	case errors.Is(err, errLastOwner):
		return v.deletePage(sentence(errLastOwner), http.StatusConflict)
	case err != nil:
		return nil, err
	}
	return web.WithCookie(templates.Page("deleted.html", nil), e.Pages.NoSession()), nil
}
