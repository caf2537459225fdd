package console

// done says what was just done, above the page that a change leads to.
type done struct {
	Text string
	Undo *undo // nil: it cannot be undone
}

// undo is the form that takes a change back.
type undo struct{ Path, Name string }

// deeds are the sentences for what was done, by the key that a redirect carries.
var deeds = map[string]struct{ text, undo, name string }{
	"server.created": {text: "The MCP server is registered. This page says how to protect it and how to " +
		"connect to it."},
	"server.changed":    {text: "Saved. Tokens that are issued from now on follow it."},
	"server.deleted":    {text: "The MCP server is deleted, and every grant at it has ended."},
	"tools.added":       {text: "The MCP server is registered, and its tools are frozen as they are."},
	"tools.seen":        {text: "This server has looked at the tools."},
	"tools.reviewed":    {text: "Accepted. A gateway opens them as soon as it has the new list."},
	"client.created":    {text: "The client is created and approved."},
	"client.changed":    {text: "Saved."},
	"client.approved":   {text: "The client is approved."},
	"client.unapproved": {text: "The approval is withdrawn."},
	"client.disabled": {text: "The client is disabled: its tokens are refused from now on.", undo: "enable",
		name: "Enable it again"},
	"client.enabled":   {text: "The client is enabled again.", undo: "disable", name: "Disable it again"},
	"client.let_in":    {text: "The client is approved. People for whom it is approved and who wait can go on."},
	"client.dismissed": {text: "The people who waited are refused. The client can ask again."},
	"client.blocked":   {text: "The client is blocked, and every grant of it has ended."},
	"client.unblocked": {text: "The block has ended. The client can come again, as one that nobody has approved."},
	"client.deleted":   {text: "The client is deleted, and every grant of it has ended."},
	"person.created":   {text: "The account is created."},
	"person.changed":   {text: "Saved."},
	"person.disabled": {text: "The account is disabled: the person is signed out, and their agents are refused.",
		undo: "enable", name: "Enable it again"},
	"person.enabled":       {text: "The account is enabled again.", undo: "disable", name: "Disable it again"},
	"person.deleted":       {text: "The account is deleted, and every grant of it has ended."},
	"person.reset":         {text: "The password is changed. The person is signed out everywhere."},
	"person.passkey":       {text: "The passkey is removed. The person is signed out everywhere."},
	"person.second_factor": {text: "The second step is removed. The person is signed out everywhere."},
	"invitation.withdrawn": {text: "The invitation is withdrawn: its link has ended."},
	"group.created":        {text: "The group is created."},
	"group.changed":        {text: "Saved."},
	"group.deleted":        {text: "The group is deleted."},
	"grant.revoked": {text: "The grant is revoked. Its access tokens and its refresh token are refused from now " +
		"on; the person and the client stay as they are."},
	"session.revoked": {text: "The session has ended. The person has to sign in again in that browser; agents that " +
		"are connected stay connected."},
	"key.rotated":     {text: "A new key is published. It signs as soon as every verifier can know it."},
	"key.retired":     {text: "The key is retired: tokens signed with it are refused."},
	"token.revoked":   {text: "The token is revoked. Clients that registered with it stay."},
	"credential.gone": {text: "The API credentials are deleted: they are refused from now on."},
}

// doneOf returns what the query of v says was done, nil for nothing.
func doneOf(v *visit) *done {
	deed, ok := deeds[v.query.Get("done")]
	if !ok {
		return nil
	}
	d := &done{Text: deed.text}
	if deed.undo != "" {
		d.Undo = &undo{Path: v.path + "/" + deed.undo, Name: deed.name}
	}
	return d
}
