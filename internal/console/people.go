package console

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// peopleRoutes are the pages of the people and their groups.
func (e *Endpoint) peopleRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/people", e.show(e.people), e.do(admin.Users, "user.create", e.freshly(e.createPerson))),
		e.route("/admin/people/new", e.show(e.offer(admin.Users, "user.create", e.fresh(e.newPerson))), nil),
		e.route("/admin/people/{id}", e.show(e.person), nil),
		e.form("/admin/people/{id}/edit", admin.Users, "user.update", e.fresh(e.editPerson), e.freshly(e.changePerson)),
		e.form("/admin/people/{id}/enable", admin.Users, "user.enable", nil,
			e.freshly(e.onPerson("person.enabled", e.Operations.EnableUser))),
		e.form("/admin/people/{id}/disable", admin.Users, "user.disable", e.fresh(e.confirmDisablePerson),
			e.freshly(e.onPerson("person.disabled", e.Operations.DisableUser))),
		e.form("/admin/people/{id}/password", admin.Users, "user.reset_password", e.fresh(e.askPassword),
			e.freshly(e.resetPassword)),
		e.form("/admin/people/{id}/second-factor", admin.Users, "user.reset_second_factor",
			e.fresh(e.confirmSecondFactor),
			e.freshly(e.onPerson("person.second_factor", e.Operations.ResetSecondFactor))),
		e.form("/admin/people/{id}/passkeys/{passkey}/remove", admin.Users, "user.remove_passkey",
			e.fresh(e.confirmPasskey), e.freshly(e.removePasskey)),
		e.form("/admin/people/{id}/delete", admin.Users, "user.delete", e.fresh(e.confirmDeletePerson),
			e.freshly(e.deletePerson)),

		e.route("/admin/groups", e.show(e.groups), e.do(admin.Groups, "group.create", e.createGroup)),
		e.route("/admin/groups/{id}", e.show(e.group), e.do(admin.Groups, "group.add", e.addMember)),
		e.form("/admin/groups/{id}/remove", admin.Groups, "group.remove", nil, e.removeMember),
		e.form("/admin/groups/{id}/edit", admin.Groups, "group.update", e.editGroup, e.changeGroup),
		e.form("/admin/groups/{id}/delete", admin.Groups, "group.delete", e.confirmDeleteGroup, e.deleteGroup),
	}
}

// personList is the body of the list of people.
type personList struct {
	People []admin.User
	Query  string
	Next   string
}

func (l personList) next() string { return l.Next }

func (e *Endpoint) people(v *visit) (outcome, error) {
	list := personList{Query: strings.TrimSpace(v.query.Get("q"))}
	var err error
	list.People, list.Next, err = e.Operations.Users(v.Context(), v.caller, v.searched(list.Query))
	return screen{template: "people.html", title: "People", body: list}, err
}

// personForm is the body of the page that creates or changes an account.
type personForm struct {
	ID          string // "" if it is new
	Email, Name string
	Role        string
	Groups      []string
	All         []admin.Group // to choose from
	Typed       bool          // there are more, to be typed
	Field       string
	Invite      bool // the person makes the account
}

// Roles are the roles to choose from, with the words of the form.
func (f *personForm) Roles() any {
	return []struct{ Value, Name string }{
		{"", "none: signs in to use agents"},
		{string(identity.Auditor), "auditor: reads everything here"},
		{string(identity.Operator), "operator: MCP servers, clients, grants and sessions"},
		{string(identity.Owner), "owner: everything"},
	}
}

// Others are the groups that are chosen and not among those to choose from.
func (f *personForm) Others() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(f.Groups), func(name string) bool {
		return slices.ContainsFunc(f.All, func(g admin.Group) bool { return g.Name == name })
	}), " ")
}

// In reports whether the person is in the group.
func (f *personForm) In(group string) bool { return slices.Contains(f.Groups, group) }

func (e *Endpoint) personScreen(v *visit, f *personForm, title string, err error) (outcome, error) {
	s := screen{template: "person-form.html", title: title, body: f}
	if err != nil {
		ok := false
		if f.Field, s.problem, ok = v.wrong(err); !ok {
			return nil, err
		}
		s.status = http.StatusUnprocessableEntity
	}
	next := ""
	f.All, next, err = e.Operations.Groups(v.Context(), v.caller, store.Page{Limit: maxGroups})
	f.Typed = next != ""
	return s, err
}

func (e *Endpoint) newPerson(v *visit) (outcome, error) {
	return e.personScreen(v, &personForm{}, "Add a person", nil)
}

func (f *personForm) read(form url.Values) {
	f.Email, f.Name = strings.TrimSpace(form.Get("email")), strings.TrimSpace(form.Get("name"))
	f.Role, f.Groups = form.Get("role"), append(form["group"], strings.Fields(form.Get("groups"))...)
}

func (e *Endpoint) createPerson(v *visit, form url.Values) (outcome, error) {
	f := &personForm{}
	f.read(form)
	made, err := e.Operations.CreateUser(v.Context(), v.caller, admin.NewUser{
		Email: f.Email, Name: f.Name, Password: form.Get("password"), Role: identity.Role(f.Role), Groups: f.Groups,
	})
	if err != nil {
		return e.personScreen(v, f, "Add a person", err)
	}
	return redirect{"/admin/people/" + made.ID, "person.created"}, nil
}

// personPage is the body of the page of one person.
type personPage struct {
	admin.UserDetail
	Self     bool // it is the visitor
	Grants   []admin.Grant
	More     bool
	Sessions []admin.Session
	Older    bool // there are more sessions
}

func (e *Endpoint) person(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	body := personPage{UserDetail: u, Self: u.ID == v.Person.ID}
	few := store.Page{Newest: true, Limit: fewGrants}
	grants, next, err := e.Operations.Grants(v.Context(), v.caller, admin.GrantQuery{User: u.ID, Live: true}, few)
	if err != nil {
		return nil, err
	}
	body.Grants, body.More = grants, next != ""
	body.Sessions, next, err = e.Operations.Sessions(v.Context(), v.caller, u.ID, few)
	body.Older = next != ""
	return screen{template: "person.html", title: personName(u.Name, u.Email), body: body}, err
}

// personName returns what a person with a name and an e-mail address is called on a page. People choose their names
// themselves.
func personName(name, email string) string { return cmp.Or(web.DisplayName(name), email) }

func (e *Endpoint) editPerson(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	v.version, _ = admin.ETag(u)
	f := &personForm{ID: u.ID, Email: u.Email, Name: u.Name, Role: string(u.Role)}
	return e.personScreen(v, f, "Change "+personName(u.Name, u.Email), nil)
}

func (e *Endpoint) changePerson(v *visit, form url.Values) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	f := &personForm{ID: u.ID}
	f.read(form)
	f.Email = u.Email
	role := identity.Role(f.Role)
	if role == "" {
		role = "none"
	}
	if err := e.save(v, func(o *admin.Operations) (any, error) {
		return o.User(v.Context(), v.caller, v.id())
	}, func(o *admin.Operations) (any, error) {
		return o.UpdateUser(v.Context(), v.caller, v.id(), admin.UserTerms{Name: &f.Name, Role: &role})
	}); err != nil {
		return e.personScreen(v, f, "Change "+personName(u.Name, u.Email), err)
	}
	return redirect{"/admin/people/" + v.id(), "person.changed"}, nil
}

// onPerson adapts an operation on the account that the path names.
func (e *Endpoint) onPerson(deed string,
	operate func(context.Context, admin.Caller, string) (admin.User, error),
) func(*visit, url.Values) (outcome, error) {
	return func(v *visit, _ url.Values) (outcome, error) {
		_, err := operate(v.Context(), v.caller, v.id())
		return redirect{"/admin/people/" + v.id(), deed}, err
	}
}

func (e *Endpoint) confirmDisablePerson(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "Disable " + personName(u.Name, u.Email), body: confirmation{
		Question: "Disable the account of " + personName(u.Name, u.Email) + "?",
		Ends: []string{
			"The person is signed out everywhere and cannot sign in.",
			"The tokens of their agents are refused while the account is disabled.",
			"What they allowed stays, and works again if you enable the account.",
		},
		Button: "Disable it", Back: "/admin/people/" + u.ID,
	}}, err
}

func (e *Endpoint) askPassword(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	return screen{template: "password.html", title: "A new password for " + personName(u.Name, u.Email),
		body: u.User}, err
}

// resetPassword sets the password, or makes a link with which the person does. It answers the form with the link,
// because no page shows that again.
func (e *Endpoint) resetPassword(v *visit, form url.Values) (outcome, error) {
	grants := admin.OldGrants(form.Get("keep") != "")
	if form.Has("link") {
		made, err := e.Operations.PasswordLink(v.Context(), v.caller, v.id(), grants)
		return screen{template: "password-link.html", title: "A link for " + personName(made.Name, made.Email),
			body: made}, err
	}
	_, err := e.Operations.ResetPassword(v.Context(), v.caller, v.id(), form.Get("password"), grants)
	refused := (*admin.Error)(nil)
	if errors.As(err, &refused) && refused.Kind == admin.Invalid {
		again, err := e.askPassword(v)
		if err != nil {
			return nil, err
		}
		s := again.(screen)
		s.problem, s.status = web.Sentence(refused.Text(label)), http.StatusUnprocessableEntity
		return s, nil
	}
	return redirect{"/admin/people/" + v.id(), "person.reset"}, err
}

func (e *Endpoint) confirmSecondFactor(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	name := personName(u.Name, u.Email)
	return screen{template: "confirm.html", title: "The second step of " + name, body: confirmation{
		Question: "Remove the second step of " + name + "?",
		Ends: []string{
			"The authenticator app, the recovery codes and the passkeys of the account are deleted.",
			"The person is signed out everywhere. Agents stay connected.",
			"Do this only if you are sure that it is the person who has lost the device.",
		},
		Button: "Remove it", Back: "/admin/people/" + u.ID,
	}}, err
}

func (e *Endpoint) confirmPasskey(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	if err != nil {
		return nil, err
	}
	name := personName(u.Name, u.Email)
	for _, k := range u.Passkeys {
		if k.ID == v.PathValue("passkey") {
			return screen{template: "confirm.html", title: "A passkey of " + name, body: confirmation{
				Question: "Remove the passkey " + web.DisplayName(k.Name) + " of " + name + "?",
				Ends: []string{"Nobody can sign in with it any more.",
					"The person is signed out everywhere. Agents stay connected."},
				Button: "Remove it", Back: "/admin/people/" + u.ID,
			}}, nil
		}
	}
	return redirect{path: "/admin/people/" + u.ID}, nil
}

func (e *Endpoint) removePasskey(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.RemovePasskey(v.Context(), v.caller, v.id(), v.PathValue("passkey"))
	return redirect{"/admin/people/" + v.id(), "person.passkey"}, err
}

func (e *Endpoint) confirmDeletePerson(v *visit) (outcome, error) {
	u, err := e.Operations.User(v.Context(), v.caller, v.id())
	return screen{template: "confirm.html", title: "Delete " + personName(u.Name, u.Email), body: confirmation{
		Question: "Delete the account of " + personName(u.Name, u.Email) + "?",
		Ends: []string{
			"The person is signed out everywhere, and every grant they gave ends: the tokens of their agents are " +
				"refused at once.",
			"The account cannot be brought back. The audit log keeps what happened.",
		},
		Button: "Delete it", Back: "/admin/people/" + u.ID,
	}}, err
}

func (e *Endpoint) deletePerson(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.DeleteUser(v.Context(), v.caller, v.id())
	return redirect{"/admin/people", "person.deleted"}, err
}

// groupList is the body of the list of groups.
type groupList struct {
	Groups            []admin.Group
	Name, Description string // typed, and refused
	TwoFactors        bool
	Next              string
}

func (l groupList) next() string { return l.Next }

func (e *Endpoint) groups(v *visit) (outcome, error) { return e.groupScreen(v, groupList{}, "") }

func (e *Endpoint) groupScreen(v *visit, list groupList, problem string) (outcome, error) {
	var err error
	list.Groups, list.Next, err = e.Operations.Groups(v.Context(), v.caller, v.page())
	s := screen{template: "groups.html", title: "Groups", body: list, problem: problem}
	if problem != "" {
		s.status = http.StatusUnprocessableEntity
	}
	return s, err
}

func (e *Endpoint) createGroup(v *visit, form url.Values) (outcome, error) {
	list := groupList{Name: strings.TrimSpace(form.Get("name")),
		Description: strings.TrimSpace(form.Get("description")), TwoFactors: form.Get("second_factor") != ""}
	made, err := e.Operations.CreateGroup(v.Context(), v.caller, list.Name,
		admin.GroupTerms{Description: &list.Description, SecondFactor: &list.TwoFactors})
	if refused := (*admin.Error)(nil); errors.As(err, &refused) && refused.Kind != admin.Forbidden {
		return e.groupScreen(v, list, web.Sentence(refused.Text(label)))
	}
	return redirect{"/admin/groups/" + made.Name, "group.created"}, err
}

// groupPage is the body of the page of one group.
type groupPage struct {
	admin.GroupMembers
	User string // typed, and refused
	Next string
}

func (p groupPage) next() string { return p.Next }

func (e *Endpoint) group(v *visit) (outcome, error) { return e.memberScreen(v, "", "") }

func (e *Endpoint) memberScreen(v *visit, user, problem string) (outcome, error) {
	g, next, err := e.Operations.Group(v.Context(), v.caller, v.id(), v.page())
	s := screen{template: "group.html", title: g.Name, body: groupPage{g, user, next}, problem: problem}
	if problem != "" {
		s.status = http.StatusUnprocessableEntity
	}
	return s, err
}

func (e *Endpoint) addMember(v *visit, form url.Values) (outcome, error) {
	user := strings.TrimSpace(form.Get("user"))
	_, err := e.Operations.AddMember(v.Context(), v.caller, v.id(), user)
	if refused := (*admin.Error)(nil); errors.As(err, &refused) && refused.Noun == admin.Users {
		return e.memberScreen(v, user, web.Sentence(refused.Text(label)))
	}
	return redirect{"/admin/groups/" + v.id(), "group.changed"}, err
}

func (e *Endpoint) removeMember(v *visit, form url.Values) (outcome, error) {
	_, err := e.Operations.RemoveMember(v.Context(), v.caller, v.id(), form.Get("user"))
	return redirect{"/admin/groups/" + v.id(), "group.changed"}, err
}

// groupForm is the body of the page that changes a group.
type groupForm struct {
	Name, Description string
	TwoFactors        bool
}

func (f groupForm) screen(problem string) screen {
	s := screen{template: "group-form.html", title: "Change " + f.Name, body: f, problem: problem}
	if problem != "" {
		s.status = http.StatusUnprocessableEntity
	}
	return s
}

func (e *Endpoint) editGroup(v *visit) (outcome, error) {
	g, _, err := e.Operations.Group(v.Context(), v.caller, v.id(), store.Page{Limit: 1})
	v.version, _ = admin.ETag(g)
	return groupForm{g.Name, g.Description, g.SecondFactor}.screen(""), err
}

func (e *Endpoint) changeGroup(v *visit, form url.Values) (outcome, error) {
	f := groupForm{v.id(), strings.TrimSpace(form.Get("description")), form.Get("second_factor") != ""}
	err := e.save(v, func(o *admin.Operations) (any, error) {
		g, _, err := o.Group(v.Context(), v.caller, f.Name, store.Page{Limit: 1})
		return g, err
	}, func(o *admin.Operations) (any, error) {
		return o.UpdateGroup(v.Context(), v.caller, f.Name,
			admin.GroupTerms{Description: &f.Description, SecondFactor: &f.TwoFactors})
	})
	if _, problem, ok := v.wrong(err); ok {
		return f.screen(problem), nil
	}
	return redirect{"/admin/groups/" + v.id(), "group.changed"}, err
}

func (e *Endpoint) confirmDeleteGroup(v *visit) (outcome, error) {
	g, _, err := e.Operations.Group(v.Context(), v.caller, v.id(), store.Page{Limit: 1})
	return screen{template: "confirm.html", title: "Delete " + g.Name, body: confirmation{
		Question: "Delete the group " + g.Name + "?",
		Ends: []string{"The people in it keep their accounts.",
			"What was open to this group alone is closed to them."},
		Button: "Delete it", Back: "/admin/groups/" + g.Name,
	}}, err
}

func (e *Endpoint) deleteGroup(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.DeleteGroup(v.Context(), v.caller, v.id())
	return redirect{"/admin/groups", "group.deleted"}, err
}
