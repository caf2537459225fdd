package console

import (
	"net/url"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
)

// keyRoutes are the pages of the signing keys.
func (e *Endpoint) keyRoutes() []web.Route {
	return []web.Route{
		e.route("/admin/keys", e.show(e.keys), nil),
		e.form("/admin/keys/rotate", admin.Keys, "key.rotate", e.fresh(e.askRotation), e.freshly(e.rotateKey)),
		e.form("/admin/keys/{id}/retire", admin.Keys, "key.retire", e.fresh(e.confirmRetire), e.freshly(e.retireKey)),
	}
}

// keyList is the body of the list of keys.
type keyList struct{ Keys []keyLine }

// keyLine is a key of the list.
type keyLine struct {
	KID, Alg, State          string
	Created, Active, Retired admin.Moment
}

func (e *Endpoint) keys(v *visit) (outcome, error) {
	infos, err := e.Operations.Keys(v.Context(), v.caller)
	var list keyList
	for _, k := range infos {
		list.Keys = append(list.Keys,
			keyLine{k.KID, k.Alg, k.State, admin.Moment{Time: k.CreatedAt}, admin.Moment{Time: k.ActiveAt},
				admin.Moment{Time: k.RetiredAt}})
	}
	return screen{template: "keys.html", title: "Keys", body: list}, err
}

func (e *Endpoint) askRotation(*visit) (outcome, error) {
	return screen{template: "rotate.html", title: "Rotate a key", body: oauth.SigningAlgs}, nil
}

func (e *Endpoint) rotateKey(v *visit, form url.Values) (outcome, error) {
	_, err := e.Operations.RotateKey(v.Context(), v.caller, admin.Rotation{Alg: form.Get("alg"),
		Now: form.Get("now") != ""})
	return redirect{"/admin/keys", "key.rotated"}, err
}

func (e *Endpoint) confirmRetire(v *visit) (outcome, error) {
	return screen{template: "confirm.html", title: "Retire a key", body: confirmation{
		Question: "Retire the key " + v.id() + "?",
		Ends: []string{
			"The key leaves the key set at once, and every access token that it signed is refused from then on, " +
				"within the time that verifiers keep the key set.",
			"Agents refresh by themselves and get a token signed by the current key.",
			"Do this if the key may have leaked. Otherwise keys retire by themselves after a rotation.",
		},
		Button: "Retire it", Back: "/admin/keys",
	}}, nil
}

func (e *Endpoint) retireKey(v *visit, _ url.Values) (outcome, error) {
	_, err := e.Operations.RetireKey(v.Context(), v.caller, v.id())
	return redirect{"/admin/keys", "key.retired"}, err
}
