package login

import (
	"net/http"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// Letter is what a mail says.
type Letter = mail.Letter

// SendMail queues a letter that the sender of r asked for, who may be anybody. It returns at once, and refuses if too many
// letters were asked for: from the network, from all, or for the address. Nothing in its answer, or in the time that it
// takes, depends on l.Nobody. e.Mail must be set.
func (e *Endpoint) SendMail(r *http.Request, l Letter) error {
	if ok, wait := e.MayAsk(r); !ok {
		return oauth.RefuseForNow(wait, "too many mails were asked for from this network")
	}
	l.Device = e.Pages.KnownDevice(r, identity.EmailKey(l.To))
	return e.Mail.Send(l)
}
