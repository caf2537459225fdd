package audit

import "strconv"

// AuthorizationRequest is the answer to a request at /oauth2/authorize: a
// refusal, or the first page of an interaction (OAuth 2.1 §4.1.1).
func AuthorizationRequest(clientID string) Event {
	return Event{Action: "authorize.request", ClientID: clientID}
}

// Consent is a person's answer on the consent page.
func Consent(clientID, userID, resource, scope string) Event {
	return Event{Action: "authorize.consent", Actor: user(userID), ClientID: clientID, UserID: userID, Resource: resource, Scope: scope}
}

// Code is an authorization code sent to a client (OAuth 2.1 §4.1.2).
// remembered tells that no page was shown because of an earlier consent.
func Code(clientID, userID, grantID, resource, scope string, remembered bool) Event {
	e := Event{Action: "authorize.code", Actor: user(userID), ClientID: clientID, UserID: userID, GrantID: grantID, Resource: resource, Scope: scope}
	if remembered {
		e = e.With("consent", "remembered")
	}
	return e
}

// SignIn is the answer to a sign-in form. userID is the account that was tried,
// "" if there is none of that name. What was typed is not recorded: it may be
// anybody's address, or a password in the wrong input, and an event outlives the
// account.
func SignIn(userID string) Event {
	return Event{Action: signIn, Actor: user(userID), UserID: userID}
}

const signIn = "login.sign_in"

// SignOut is the end of a browser session by its owner.
func SignOut(userID string) Event {
	return Event{Action: "login.sign_out", Actor: user(userID), UserID: userID}
}

// Session is the end of a person's browser session by an operator: verb is "revoke".
func Session(verb, id, userID string) Event {
	return Event{Action: "session." + verb, UserID: userID}.With("id", id)
}

// ForeignForm is a form that another site made a person's browser post here.
// path is the page it was meant for, origin the site as the browser names it.
func ForeignForm(path, origin string) Event {
	return Event{Action: "page.foreign_form"}.With("page", path).With("origin", origin)
}

// TokenRequest is the answer to a request at /oauth2/token (RFC 6749 §3.2).
// clientID is empty while the client is not authenticated.
func TokenRequest(clientID, grantType string) Event {
	return Event{Action: "token.request", Actor: client(clientID), ClientID: clientID}.With("grant_type", grantType)
}

// Reuse is the second use of a code, or of a refresh token after its grace: an
// alarm, for either the client or a thief used the first.
func Reuse(clientID, userID, grantID, what string) Event {
	return Event{Action: "token.reuse", ClientID: clientID, UserID: userID, GrantID: grantID}.With("what", what)
}

// Grace is a refresh token that was sent again and answered with the same successor. Two
// processes of one client do that, and so does a thief: sameAddress tells whether it came
// from the network address that the successor was first sent to.
func Grace(clientID, userID, grantID string, sameAddress bool) Event {
	from := "other"
	if sameAddress {
		from = "same"
	}
	return Event{Action: "token.refresh_grace", ClientID: clientID, UserID: userID, GrantID: grantID}.With("address", from)
}

// Introspection is an answer of /oauth2/introspect that told nothing, or the
// refusal of one (RFC 7662 §2.2).
func Introspection(clientID, why string) Event {
	return Event{Action: "token.introspect", Actor: client(clientID), ClientID: clientID}.With("answer", why)
}

// Revocation is the answer to a request at /oauth2/revoke (RFC 7009 §2.1).
func Revocation(clientID, grantID, what string) Event {
	return Event{Action: "token.revoke", Actor: client(clientID), ClientID: clientID, GrantID: grantID}.With("what", what)
}

// Registration is the answer to a request at /oauth2/register (RFC 7591 §3).
// known tells that the same client had registered before.
func Registration(clientID, name string, known bool) Event {
	e := Event{Action: "client.register", Actor: client(clientID), ClientID: clientID}.With("name", name)
	if known {
		e = e.With("known", "true")
	}
	return e
}

// Management is the answer to a request about a client's own registration (RFC
// 7592 §2): verb is "read", "update" or "delete".
func Management(verb, clientID string) Event {
	return Event{Action: "client." + verb, Actor: client(clientID), ClientID: clientID}.With("by", "client")
}

// InitialAccessToken is a change made to an initial access token by an operator:
// verb is "create" or "revoke".
func InitialAccessToken(verb, id, name string) Event {
	return Event{Action: "initial_access_token." + verb}.With("id", id).With("name", name)
}

// Client is a change made to a client by an operator: verb is "create",
// "update", "approve", "rotate_secret", "disable", "enable" or "delete".
func Client(verb, clientID string) Event {
	return Event{Action: "client." + verb, ClientID: clientID}
}

// User is a change made to an account by an operator: verb is "create",
// "disable", "enable", "delete" or "reset_password".
func User(verb, userID string) Event {
	return Event{Action: "user." + verb, UserID: userID}
}

// Resource is a change made to a resource by an operator: verb is "create",
// "update" or "delete".
func Resource(verb, identifier string) Event {
	return Event{Action: "resource." + verb, Resource: identifier}
}

// Grant is the end of a grant: why is "operator", "code_reuse",
// "refresh_token_reuse", "client_revoked", …
func Grant(grantID, clientID, userID, why string) Event {
	return Event{Action: "grant.revoke", GrantID: grantID, ClientID: clientID, UserID: userID}.With("why", why)
}

// Key is a change of the signing keys: verb is "create", "rotate" or "retire".
func Key(verb, kid, alg string) Event {
	return Event{Action: "key." + verb}.With("kid", kid).With("alg", alg)
}

// Limited is a request turned away because its sender (or everybody together)
// asked too often. Only the first of a run is recorded, with how many there were
// since the last record.
func Limited(what string, since int) Event {
	return Event{Action: "limit." + what, Outcome: Refused}.With("refused", strconv.Itoa(since))
}
