package account

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/login"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// passkeySection is where the person adds, names and removes their passkeys.
type passkeySection struct{ *Endpoint }

const (
	passkeysPath   = "/account/security/passkeys"
	newPasskeyPath = passkeysPath + "/new"
)

func (s passkeySection) routes() []web.Route {
	return []web.Route{
		route(newPasskeyPath, s.Endpoint.show(s.offer), s.change("add passkey", s.add)),
		route(passkeysPath+"/{id}/rename", nil, s.change("rename passkey", s.rename)),
		route(passkeysPath+"/{id}/remove", nil, s.change("remove passkey", s.remove)),
	}
}

// ownPasskey is a passkey as its owner sees it.
type ownPasskey struct {
	ID, Name string
	Synced   bool // it is copied to other devices
	Added    moment
	Used     moment
}

// ownPasskeys is what the template of the section shows.
type ownPasskeys struct {
	Keys           []ownPasskey
	Rename, Remove string // tokens of the forms
	New            string // the path of the page on which one is added
}

func (s passkeySection) show(v *visit) (template.HTML, error) {
	var keys []*identity.Passkey
	err := v.view(func(tx *store.Tx) (err error) {
		keys, err = tx.Passkeys(v.Person.ID)
		return err
	})
	if err != nil || !s.Login.UsesPasskeys() && len(keys) == 0 {
		return "", err
	}
	own := ownPasskeys{Rename: v.CSRF("rename passkey"), Remove: v.CSRF("remove passkey")}
	if s.Login.UsesPasskeys() {
		own.New = newPasskeyPath
	}
	for _, k := range keys {
		own.Keys = append(own.Keys, ownPasskey{ID: k.ID, Name: k.Name, Synced: k.BackedUp, Added: v.moment(k.CreatedAt),
			Used: v.moment(k.UsedAt)})
	}
	return v.part("security-passkeys.html", own)
}

// newPasskey is what the template of the page shows.
type newPasskey struct {
	Options string // for the script
	CSRF    string
}

// offer answers GET /account/security/passkeys/new with the page on which the person adds a passkey.
func (s passkeySection) offer(v *visit) (web.Answer, error) { return s.page(v, "", 0) }

// page returns the page on which the person adds a passkey. problem is a sentence on why the last attempt failed.
func (s passkeySection) page(v *visit, problem string, status int) (web.Answer, error) {
	if !s.Login.UsesPasskeys() {
		return nil, errNotFound
	}
	if _, elsewhere, err := v.owner(newPasskeyPath); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	options, err := s.Login.NewPasskey(v.Context(), v.Visitor)
	if err != nil {
		return nil, err
	}
	answer, err := v.answer(screen{template: "passkey.html", title: "Add a passkey", here: "/account/security",
		body: newPasskey{options, v.CSRF("add passkey")}, problem: problem, status: status})
	if err != nil {
		return nil, err
	}
	return answer.Page().Scripted(), nil
}

func (s passkeySection) add(v *visit, form url.Values) (web.Answer, error) {
	if !s.Login.UsesPasskeys() {
		return nil, errNotFound
	}
	if _, elsewhere, err := v.owner(newPasskeyPath); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	answer, err := s.Login.AddPasskey(v.Request, v.Visitor, form.Get("passkey"), browserName(v.UserAgent()),
		"/account/security?done=passkey-added")
	if err == nil || errors.Is(err, interaction.ErrSignedOut) {
		return answer, err
	}
	refusal, fault := s.Pages.Refused(v.Request, audit.Passkey("add", v.Person.ID, "", ""), err)
	if fault != nil {
		return nil, fault
	}
	return s.page(v, login.ExplainPasskey(err), refusal.Status())
}

func (s passkeySection) rename(v *visit, form url.Values) (web.Answer, error) {
	name := web.DisplayName(form.Get("name"))
	if name == "" {
		return v.securityPage("Type a name for the passkey.", http.StatusBadRequest)
	}
	err := s.Login.RenamePasskey(v.Context(), v.Visitor, v.id(), name)
	return s.answer(v, "rename", err, "passkey-renamed")
}

func (s passkeySection) remove(v *visit, _ url.Values) (web.Answer, error) {
	if _, elsewhere, err := v.owner("/account/security"); elsewhere != nil || err != nil {
		return elsewhere, err
	}
	return s.answer(v, "remove", s.Login.RemovePasskey(v.Context(), v.Visitor, v.id()), "passkey-removed")
}

// answer returns the answer to a form of one of the passkeys, of which err is the outcome.
func (s passkeySection) answer(v *visit, verb string, err error, deed string) (web.Answer, error) {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errNotFound
	case err == nil:
		return done("/account/security", deed)
	case errors.Is(err, interaction.ErrSignedOut):
		return nil, err
	}
	refusal, fault := s.Pages.Refused(v.Request, audit.Passkey(verb, v.Person.ID, v.id(), ""), err)
	if fault != nil {
		return nil, fault
	}
	return v.securityPage(login.ExplainPasskey(err), refusal.Status())
}
