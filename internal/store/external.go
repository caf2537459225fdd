package store

import "time"

// ExternalLogin is what the application with its own sign-in page has answered to a login request.
type ExternalLogin struct {
	Hash        string // of the state
	Request     string // the login request
	Application string // Client.Incarnation of the client that answered
	Answer      string // JSON
	ExpiresAt   time.Time
}

// SetLoginClient makes a client the one that answers login requests. It returns ErrConflict if there is one already.
func (tx *Tx) SetLoginClient(id string) error {
	return tx.create("INSERT INTO login_client (id, client_id) VALUES (1, $1) ON CONFLICT DO NOTHING", args{id})
}

// LoginClient returns the id of the client that answers login requests, or ErrNotFound.
func (tx *Tx) LoginClient() (id string, err error) {
	err = tx.row("SELECT client_id FROM login_client", nil, &id)
	return id, err
}

// AnswerLogin stores the answer to a login request. It returns ErrConflict if the request was answered before.
func (tx *Tx) AnswerLogin(l ExternalLogin) error {
	return tx.create("INSERT INTO external_logins (hash, request, application, answer, expires_at) "+
		"VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
		args{l.Hash, l.Request, l.Application, l.Answer, l.ExpiresAt.UnixMicro()})
}

// ExternalLogin returns the answer whose state has the given hash. It returns ErrNotFound if there is none, or if it
// has expired.
func (tx *Tx) ExternalLogin(hash string) (l ExternalLogin, err error) {
	err = tx.row("SELECT hash, request, application, answer, expires_at FROM external_logins "+
		"WHERE hash = $1 AND expires_at > $2", args{hash, micros(tx.now)},
		&l.Hash, &l.Request, &l.Application, &l.Answer, instant{&l.ExpiresAt})
	return l, err
}
