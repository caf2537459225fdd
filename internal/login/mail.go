package login

import (
	"net/http"
	"slices"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/upstream"
)

// ResetPath is the page on which people set a new password.
const ResetPath = "/reset"

// Letter is what a mail says.
type Letter = mail.Letter

// SendMail queues a letter that the sender of r asked for, who may be anybody. It returns at once, and refuses if too
// many letters were asked for: from the network, from all, or for the address. Nothing in its answer, or in the time
// that it takes, depends on l.Nobody. e.Mail must be set.
func (e *Endpoint) SendMail(r *http.Request, l Letter) error {
	return e.SendMailWith(r, l, func(*Letter) error { return nil })
}

// SendMailWith is SendMail with a letter that finish completes, for what it costs to make a link. finish is called only
// if the letter is not refused because of its sender or address; SendMailWith returns its error.
func (e *Endpoint) SendMailWith(r *http.Request, l Letter, finish func(*Letter) error) error {
	if ok, wait := e.MayAsk(r); !ok {
		return oauth.RefuseForNow(wait, "too many mails were asked for from this network")
	}
	l.Device = e.Pages.KnownDevice(r, identity.EmailKey(l.To))
	if err := e.Mail.Admit(&l); err != nil {
		return err
	}
	if err := finish(&l); err != nil {
		return err
	}
	return e.Mail.SendAdmitted(l)
}

// LeadsAway reports whether a form with an e-mail address may lead to a provider, because there is one that serves
// domains.
func (e *Endpoint) LeadsAway() bool {
	return slices.ContainsFunc(e.providers, func(p *upstream.Provider) bool { return len(p.Domains) > 0 })
}

// ProviderOf returns the path at which people with an address of this domain sign in, or "" if they do that in any way.
func (e *Endpoint) ProviderOf(email string) (path string) {
	if p := e.providerOf(identity.EmailKey(email)); p != nil {
		return provider{e, p}.start(destination{}, email)
	}
	return ""
}
