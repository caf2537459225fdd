package audit

import (
	"strconv"
	"time"
)

// AuthorizationRequest records the answer to a request at /oauth2/authorize: a refusal, or the first page of an
// interaction (OAuth 2.1 §4.1.1).
func AuthorizationRequest(clientID string) Event {
	return Event{Action: "authorize.request", ClientID: clientID}
}

// Consent records a person's answer on the consent page.
func Consent(clientID, userID, resource, scope string) Event {
	return Event{Action: "authorize.consent", Actor: user(userID), ClientID: clientID, UserID: userID,
		Resource: resource, Scope: scope}
}

// Denial records that a person denied a client's request on the consent page.
func Denial(clientID, userID, resource string) Event {
	return Consent(clientID, userID, resource, "").With("decision", "deny")
}

// Waiting records that a person asks for a client that an operator has to approve first, or that such a request was
// refused.
func Waiting(clientID, userID, resource, scope string) Event {
	return Event{Action: "client.wait", Actor: user(userID), ClientID: clientID, UserID: userID, Resource: resource,
		Scope: scope}
}

// Block records that an operator blocked or unblocked a client. verb is "block" or "unblock".
func Block(verb, clientID, blockID string) Event {
	return Event{Action: "client." + verb, ClientID: clientID}.With("block", blockID)
}

// Code records that an authorization code was sent to a client (OAuth 2.1 §4.1.2). remembered means that the consent
// page was not shown because of an earlier consent.
func Code(clientID, userID, grantID, resource, scope string, remembered bool) Event {
	e := Event{Action: "authorize.code", Actor: user(userID), ClientID: clientID, UserID: userID, GrantID: grantID,
		Resource: resource, Scope: scope}
	if remembered {
		e = e.With("consent", "remembered")
	}
	return e
}

// SignIn records the answer to a sign-in form. userID is the account that was tried, or "" if it does not exist.
// The address that was typed is not recorded, because it may be somebody else's, or a password typed into the wrong
// field, and because an event outlives the account.
func SignIn(userID string) Event {
	return Event{Action: SignedIn, Actor: user(userID), UserID: userID}
}

// The actions that are counted: if allowed, a token was issued, or a person signed in.
const (
	Issued   = "token.request"
	SignedIn = "login.sign_in"
)

// SecondFactor records that a person changed their second factor. verb is "set_up", "new_codes" or "remove".
func SecondFactor(verb, userID string) Event {
	return Event{Action: "second_factor." + verb, Actor: user(userID), UserID: userID}
}

// Passkey records that a person changed one of their passkeys. verb is "add", "rename" or "remove".
func Passkey(verb, userID, id, name string) Event {
	return Event{Action: "passkey." + verb, Actor: user(userID), UserID: userID}.With("passkey", id).With("name", name)
}

// SignOut records that a person ended their browser session.
func SignOut(userID string) Event {
	return Event{Action: "login.sign_out", Actor: user(userID), UserID: userID}
}

// Session records that an operator ended a person's browser session. verb is "revoke".
func Session(verb, id, userID string) Event {
	return Event{Action: "session." + verb, UserID: userID}.With("id", id)
}

// ForeignForm records a cross-site form post that was refused. path is the page that it was posted to, and origin the
// site that the browser named in its headers.
func ForeignForm(path, origin string) Event {
	return Event{Action: "page.foreign_form"}.With("page", path).With("origin", origin)
}

// Console records that a person without a role asked for a page of the console. path is the page.
func Console(userID, path string) Event {
	return Event{Action: "console.open", Actor: user(userID), UserID: userID}.With("page", path)
}

// TokenRequest records the answer to a request at /oauth2/token (RFC 6749 §3.2). clientID is empty if the client was
// not authenticated.
func TokenRequest(clientID, grantType string) Event {
	return Event{Action: Issued, Actor: client(clientID), ClientID: clientID}.With("grant_type", grantType)
}

// Reuse records the second use of a code, or of a refresh token after its grace period. It is an alarm, because either
// this use or the first one may be a thief's. what is "refresh_token_newer" for a refresh token that was issued after
// the state to which the database was restored.
func Reuse(clientID, userID, grantID, what string) Event {
	return Event{Action: "token.reuse", ClientID: clientID, UserID: userID, GrantID: grantID}.With("what", what)
}

// Grace records a refresh token that was sent again within its grace period and answered with the same successor. Two
// processes of one client may do that, and so may a thief; sameAddress reports whether the request came from the
// network address that the successor was first sent to.
func Grace(clientID, userID, grantID string, sameAddress bool) Event {
	from := "other"
	if sameAddress {
		from = "same"
	}
	return Event{Action: "token.refresh_grace", ClientID: clientID, UserID: userID, GrantID: grantID}.
		With("address", from)
}

// Introspection records that /oauth2/introspect answered "inactive" or refused the request (RFC 7662 §2.2).
func Introspection(clientID, why string) Event {
	return Event{Action: "token.introspect", Actor: client(clientID), ClientID: clientID}.With("answer", why)
}

// ToolCall records a call of a tool at a resource that reporter, the credentials of its resource server, reported.
func ToolCall(reporter, resource, tool string) Event {
	return Event{Action: "tool.call", Actor: client(reporter), Resource: resource}.With("tool", tool)
}

// ToolDrift records that reporter, the credentials of a resource server, reported a tool that is not what an operator
// reviewed, and that is therefore closed.
func ToolDrift(reporter, resource, tool string) Event {
	return Event{Action: "tool.drift", Actor: client(reporter), Resource: resource}.With("tool", tool)
}

// ToolReport records that a report of tool calls was refused.
func ToolReport(clientID string) Event {
	return Event{Action: "tool.report", Actor: client(clientID), ClientID: clientID}
}

// Revocation records the answer to a request at /oauth2/revoke (RFC 7009 §2.1).
func Revocation(clientID, grantID, what string) Event {
	return Event{Action: "token.revoke", Actor: client(clientID), ClientID: clientID, GrantID: grantID}.
		With("what", what)
}

// Registration records the answer to a request at /oauth2/register (RFC 7591 §3). known reports whether the same client
// had registered before.
func Registration(clientID, name string, known bool) Event {
	e := Event{Action: "client.register", Actor: client(clientID), ClientID: clientID}.With("name", name)
	if known {
		e = e.With("known", "true")
	}
	return e
}

// Management records the answer to a client's request about its own registration (RFC 7592 §2). verb is "read",
// "update" or "delete".
func Management(verb, clientID string) Event {
	return Event{Action: "client." + verb, Actor: client(clientID), ClientID: clientID}.With("by", "client")
}

// InitialAccessToken records an operator's change to an initial access token. verb is "create" or "revoke".
func InitialAccessToken(verb, id, name string) Event {
	return Event{Action: "initial_access_token." + verb}.With("id", id).With("name", name)
}

// Client records an operator's change to a client. verb is "create", "update", "approve", "unapprove", "dismiss",
// "rotate_secret", "disable", "enable" or "delete".
func Client(verb, clientID string) Event {
	return Event{Action: "client." + verb, ClientID: clientID}
}

// User records an operator's change to an account. verb is "create", "update", "disable", "enable", "delete",
// "reset_password", "reset_link", "reset_second_factor" or "remove_passkey".
func User(verb, userID string) Event {
	return Event{Action: "user." + verb, UserID: userID}
}

// Invitation records an operator's change to the invitation of an address. verb is "resend" or "withdraw". userID is
// the id of the account that it makes.
func Invitation(verb, userID, email string) Event {
	return Event{Action: "invitation." + verb, UserID: userID}.With("invited", email)
}

// Invite records that an operator invited the owner of an address to make the account userID.
func Invite(userID, email string) Event { return User("invite", userID).With("invited", email) }

// SignUp records that a person made their own account, or that this was refused. userID is "" if there is none.
func SignUp(userID string) Event {
	return Event{Action: "user.sign_up", Actor: user(userID), UserID: userID}
}

// Acceptance records that a person made an account with an invitation, or that this was refused. userID is "" if the
// invitation is not known.
func Acceptance(userID string) Event {
	return Event{Action: "invitation.accept", Actor: user(userID), UserID: userID}
}

// PasswordChange records that a person changed their password, which ended a number of sessions in other browsers.
func PasswordChange(userID string, ended int) Event {
	e := Event{Action: "user.change_password", Actor: user(userID), UserID: userID}
	if ended > 0 {
		e = e.With("sessions_ended", strconv.Itoa(ended))
	}
	return e
}

// Departure records that a person deleted their own account.
func Departure(userID string) Event {
	return Event{Action: "user.delete", Actor: user(userID), UserID: userID}
}

// OwnData records that a person downloaded what is stored about them.
func OwnData(userID string) Event {
	return Event{Action: "user.export", Actor: user(userID), UserID: userID}
}

// OwnSession records that a person ended one of their sessions from another browser.
func OwnSession(id, userID string) Event {
	e := Session("revoke", id, userID)
	e.Actor = user(userID)
	return e
}

// Identity records a person's change to their accounts at identity providers. verb is "connect" or "disconnect".
func Identity(verb, userID string) Event {
	return Event{Action: "identity." + verb, Actor: user(userID), UserID: userID}
}

// Setup records that a link for the setup of the installation was made ("link"), or that userID became
// its first owner ("complete").
func Setup(verb, userID string) Event {
	return Event{Action: "setup." + verb, Actor: user(userID), UserID: userID}
}

// Group records an operator's change to a group, or the membership of userID in it. verb is "create", "update",
// "delete", "add" or "remove".
func Group(verb, name, userID string) Event {
	return Event{Action: "group." + verb, UserID: userID}.With("group", name)
}

// Resource records an operator's change to a resource. verb is "create", "update", "delete", "diagnose", "add",
// "review", or "drift": the operator saw that its tools are no longer as they were reviewed.
func Resource(verb, identifier string) Event {
	return Event{Action: "resource." + verb, Resource: identifier}
}

// Export records that events were exported in a format: those that the conditions select, or all.
func Export(format, conditions string) Event {
	return Event{Action: "event.export"}.With("format", format).With("only", conditions)
}

// Grant records the end of a grant. why is "operator", "code_reuse", "refresh_token_reuse", "client_revoked", …
func Grant(grantID, clientID, userID, why string) Event {
	return Event{Action: "grant.revoke", GrantID: grantID, ClientID: clientID, UserID: userID}.With("why", why)
}

// Disconnection records that a person ended a grant of theirs.
func Disconnection(grantID, clientID, userID string) Event {
	e := Grant(grantID, clientID, userID, "person")
	e.Actor = user(userID)
	return e
}

// DisconnectionOfAll records that a person ended all their grants. n is the number of those that were in force.
func DisconnectionOfAll(userID string, n int) Event {
	return Event{Action: "grant.revoke_all", Actor: user(userID), UserID: userID}.With("grants_ended", strconv.Itoa(n))
}

// Restoration records that a person undid a Disconnection, or that this was refused.
func Restoration(grantID, clientID, userID string) Event {
	return Event{Action: "grant.restore", Actor: user(userID), GrantID: grantID, ClientID: clientID, UserID: userID}
}

// Key records a change of the signing keys. verb is "create", "rotate" or "retire".
func Key(verb, kid, alg string) Event {
	return Event{Action: "key." + verb}.With("kid", kid).With("alg", alg)
}

// Restored records that the installation went back to the state of a time. grants is the number of grants that ended
// with it; all reports whether every grant ended.
func Restored(state time.Time, grants int, all bool) Event {
	e := Event{Action: "restore"}.With("state", state.UTC().Format(time.RFC3339)).With("grants_ended",
		strconv.Itoa(grants))
	if !all {
		e = e.With("grants_kept", "yes")
	}
	return e
}

// Limited records requests that were refused because of a limit, per sender or for all senders together. It is recorded
// at intervals; since is the number of refusals since the last such event.
func Limited(what string, since int) Event {
	return Event{Action: "limit." + what, Outcome: Refused}.With("refused", strconv.Itoa(since))
}

// Retention records that the contents of the first events of the log are deleted, because they were sealed before a
// time.
func Retention(events int64, before time.Time) Event {
	return Event{Action: "audit.retain"}.With("events", strconv.FormatInt(events, 10)).
		With("before", before.UTC().Format(time.RFC3339))
}

// Replay records that the sealed events from a number on are sent to a receiver again.
func Replay(receiver string, from int64) Event {
	return Event{Action: "audit.replay"}.With("receiver", receiver).With("from", strconv.FormatInt(from, 10))
}
