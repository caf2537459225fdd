package audit

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Names are the present names of the parties of an event. "" is the name of one that is unknown or deleted: its id is
// used instead.
type Names struct {
	Client, Person, Resource string
	// Scope returns a description of a scope, or "" if the sentence should leave it out. If Scope is nil, a scope is
	// called by its name.
	Scope func(name string) string
}

// scopes returns what the scopes of an event are called.
func (n Names) scopes(names []string) (called []string) {
	more := " more scopes"
	if n.Scope != nil {
		more = " more permissions"
	}
	for _, name := range names {
		words := name
		if n.Scope != nil {
			words = n.Scope(name)
		}
		switch words = Clean(words); {
		case words == "":
		case words != name: // it may have commas and an "and" of its own
			called = append(called, "“"+words+"”")
		default:
			called = append(called, words)
		}
	}
	if len(called) > 6 {
		called = append(called[:5], strconv.Itoa(len(called)-5)+more)
	}
	return called
}

// stories has a sentence for what was allowed and one for what was refused, by action. A word in braces stands for what
// it names, and text in brackets is left out if a word in it stands for nothing.
var stories = map[string][2]string{
	"authorize.request": {"{client} began to ask a person for access",
		"A request of {client} to be let in was refused[ because {why}]"},
	"authorize.consent": {"{person} allowed {client} to use {scope}[ at {resource}]",
		"{client} was not let in[ at {resource}][, because {why}]"},
	"authorize.code": {"{person} allowed {client} to use {scope}[ at {resource}][ for {for}]" +
		"[, as before, and was not asked again{remembered}]",
		"{client} was not let in[ at {resource}][, because {why}]"},

	"second_factor.set_up": {"{person} set up an authenticator app",
		"{person} could not change their second factor[ because {why}]"},
	"second_factor.new_codes": {"{person} made new recovery codes",
		"{person} may not make recovery codes[ because {why}]"},
	"second_factor.remove": {"{person} removed their authenticator app",
		"{person} may not remove their authenticator app[ because {why}]"},
	"passkey.add":    {"{person} added the passkey {name}", "{person} could not add a passkey[ because {why}]"},
	"passkey.rename": {"{person} named a passkey {name}", "{person} could not name a passkey[ because {why}]"},
	"passkey.remove": {"{person} removed the passkey[ {name}]",
		"{person} could not remove a passkey[ because {why}]"},
	"login.sign_in": {"{person} signed in[ with {provider}][ with a {method}]",
		"Signing in[ as {person?}][ with {provider}][ with a {method}] was refused[ because {why}][ ({cause})]"},
	"login.sign_out": {"{person} signed out", "Signing out[ of {person?}] was refused[ because {why}]"},
	"page.foreign_form": {"A form came from another site[, {origin}]",
		"A form[ for {page}] was refused because it came from another site[, {origin}]"},

	"console.open": {"{person} opened the console[ at {page}]",
		"{person} may not open the console[ at {page}][: {why}]"},

	Issued: {"{client} obtained a token[ for {person?}][ at {resource}][ with {scope}][ ({how})]",
		"{credential} of {client}[ for {person?}] was refused[ because {why}]"},
	"token.reuse": {"{what} of {client}[ for {person?}] was used a second time",
		"{what} of {client}[ for {person?}] was used a second time, perhaps by a thief" +
			"[; it was refused because {why}]"},
	"token.refresh_grace": {"{client} sent a refresh token again[ for {person?}] and received the same answer" +
		"[, from another address{elsewhere}]",
		"A refresh token that {client} sent again[ for {person?}] was refused[ because {why}]"},
	"token.introspect": {"{client} asked about a token[ and heard that it is {answer}]",
		"{client} asked about a token and was refused[ because {why}]"},
	"tool.call": {"{client} called the tool[ {tool}][ for {person?}][ at {resource}][, which failed{failed}]" +
		"[: {error}]",
		"A call of the tool[ {tool}] by {client}[ for {person?}][ at {resource}] was refused[: {why}]"},
	"tool.drift": {"The tool {tool} of {resource} is not what was reviewed, and is closed[: {difference}]",
		"A report about the tool {tool} was refused[: {why}]"},
	"tool.report":   {"{client} reported tool calls", "{client} may not report tool calls[: {why}]"},
	"token.revoke":  {"{client} gave up {what}", "{client} tried to give up a token and was refused[ because {why}]"},
	"token.inspect": {"{actor} looked into a token", "{actor} may not look into tokens[: {why}]"},

	"client.register": {"{client} registered itself[, as it had before{known}]",
		"The registration of a client[ {name}] was refused[ because {why}]"},
	"client.wait": {"{person} asked to let {client} in[ at {resource}][ with {scope}], which waits for an operator",
		"{client} was not let in[, because {why}]"},
	"setup.link": {"{actor} made a link to set the installation up",
		"A link to set the installation up was refused[ because {why}]"},
	"setup.complete": {"{person} set the installation up and is its first owner",
		"An attempt to set the installation up was refused[ because {why}]"},
	"audit.replay": {"{actor} had events from number {from} on sent again to {receiver}",
		"{actor} may not have events sent again[: {why}]"},
	"audit.retain": {"The contents of the first[ {events}] events of the audit log were deleted[, as they are older " +
		"than {before}]", "The contents of old events were not deleted[ because {why}]"},
	"apply": {"{actor} applied a file", "{actor} may not apply a file[: {why}]"},
	"apply.dry_run": {"{actor} asked what a file would change",
		"{actor} may not ask what a file would change[: {why}]"},
	"export": {"{actor} exported what is protected here",
		"{actor} may not export what is protected here[: {why}]"},
	"restore": {"{actor} restored a backup: everything is as it was[ at {state}][; {grants_ended} ended][, and " +
		"the others count again{grants_kept}]",
		"{actor} may not restore a backup[: {why}]"},
	"admin.request": {"{actor} operated this server", "A request to operate this server was refused[ because {why}]"},
	"grant.revoke": {"The access of {client}[ for {person?}] ended because {end}",
		"{actor} may not end the access of {client}[ for {person?}][: {why}]"},
	"grant.revoke_all": {"{person} disconnected every client[; {grants_ended} ended]",
		"{person} may not disconnect clients[: {why}]"},
	"grant.restore": {"{person} connected {client} again, as it was",
		"{client} was not connected again[, because {why}]"},
	"resource.add": {"{actor} added the MCP server {resource}[ with the tools {tools}]",
		"{actor} may not add an MCP server[: {why}]"},
	"resource.review": {"{actor} accepted the tools {tools} of {resource} as they are now",
		"{actor} may not review the tools of an MCP server[: {why}]"},
	"resource.drift": {"The tools {tools} of {resource} are no longer as they were reviewed",
		"{actor} may not look at the tools of {resource}[: {why}]"},
	"user.sign_up": {"{person} made an account", "Making an account was refused[ because {why}]"},
	"user.invite":  {"{actor} invited[ {invited}] to make an account", "{actor} may not invite people[: {why}]"},
	"invitation.accept": {"{person} accepted an invitation",
		"An invitation[ of {person?}] was not accepted[ because {why}]"},
	"user.change_password": {"{person} changed the password[; {sessions_ended} in other browsers ended]",
		"Changing the password[ of {person?}] was refused[ because {why}]"},
	"user.export": {"{person} downloaded what is stored about their account",
		"{person} may not download that[: {why}]"},
}

// things are what operators change, by the first part of an action.
var things = map[string]string{
	"client": "the client {client}", "user": "the account of {person}", "resource": "the MCP server {resource}",
	"session": "a session of {person}", "key": "the signing key[ {kid}]", "group": "the group[ {group}]",
	"initial_access_token": "the initial access token[ {name}]", "event": "the audit log",
	"grant": "the access of {client}[ for {person?}]", "setting": "the settings",
	"invitation": "the invitation[ of {invited}]", "provider": "the identity provider[ {provider}]",
	"identity": "the sign-in[ with {provider}] of {person}",
}

// verbs are what operators do, in the past and as an infinitive, by the last part of an action. A % stands for the
// thing; without one the thing follows.
var verbs = map[string][2]string{
	"create": {"created", "create"}, "update": {"changed[ the {changed} of]", "change"},
	"delete":  {"deleted", "delete"},
	"approve": {"approved", "approve"}, "disable": {"disabled", "disable"}, "enable": {"enabled % again", "enable"},
	"unapprove":           {"withdrew the approval of", "withdraw the approval of"},
	"rotate_secret":       {"gave % a new secret", "give % a new secret"},
	"reset_password":      {"set a new password for", "set a password for"},
	"reset_link":          {"made a link to set a new password for", "make a link to set a password for"},
	"reset_second_factor": {"deleted the second factor of", "delete the second factor of"},
	"remove_passkey":      {"removed the passkey[ {name}] of", "remove a passkey of"},
	"revoke":              {"ended", "end"}, "rotate": {"published", "publish"}, "retire": {"withdrew", "withdraw"},
	"read": {"looked at", "look at"}, "export": {"exported", "export"}, "block": {"blocked", "block"},
	"unblock": {"unblocked", "unblock"},
	"dismiss": {"dismissed the request of", "dismiss the request of"}, "test": {"tested", "test"},
	"add":    {"added[ {person?}] to", "add[ {person?}] to"},
	"remove": {"removed[ {person?}] from", "remove[ {person?}] from"},
	"resend": {"renewed the link of", "renew the link of"}, "withdraw": {"withdrew", "withdraw"},
	"connect": {"connected", "connect"}, "disconnect": {"disconnected", "disconnect"},
	"diagnose": {"diagnosed", "diagnose"},
}

// ends says why grants end.
var ends = map[string]string{
	"operator":            "{actor} ended it",
	"code_reuse":          "its code was used twice",
	"refresh_token_reuse": "a refresh token was used twice",
	"refresh_token_newer": "a refresh token was newer than the restored database",
	"client_revoked":      "{client} gave it up",
	"person":              "{actor} disconnected it",
	"provider_refused":    "the identity provider no longer knows the person",
	"restore":             "a backup was restored",
}

// Sentence returns the event as one English sentence without a period. It begins with a capital letter, unless that
// would change an address or an id. Text that strangers chose is cut, and has only visible characters; it must still be
// escaped for HTML.
func (e Event) Sentence(names Names) string {
	text, _ := e.story()
	told := strings.TrimSpace(e.fill(text, names))
	first, _, _ := strings.Cut(told, " ")
	if told == "" || strings.ContainsAny(first, "@_") { // an address or an id stays as it is
		return told
	}
	r, size := utf8.DecodeRuneInString(told)
	return string(unicode.ToUpper(r)) + told[size:]
}

// Told reports whether the package has a sentence for the action of e. Sentence calls any other action by its name.
func (e Event) Told() bool {
	_, ok := e.story()
	return ok
}

// story returns the sentence of e with its words in braces.
func (e Event) story() (text string, known bool) {
	noun, verb, _ := strings.Cut(e.Action, ".")
	if noun == "limit" {
		return "[{refused} ]requests were refused because there were too many of them ({limit})", true
	}
	if e.Action == "authorize.consent" && e.Detail["decision"] == "deny" {
		return "{person} did not let {client} in[ at {resource}]", true
	}
	own := e.Detail["by"] == "client" // RFC 7592
	if s, ok := stories[e.Action]; ok && !own {
		if e.Outcome == Refused {
			return s[1], true
		}
		return s[0], true
	}
	thing, ok := things[noun]
	does, ok2 := verbs[verb]
	if e.Action == "user.update" && slices.Equal(e.members(), []string{"role"}) {
		does[0] = "changed the role of % from {role_before} to {role_after}"
	}
	if !ok || !ok2 {
		return "{actor}: {action} [{client?} ][{person?} ][{resource}][, refused because {why}]", false
	}
	who := "{actor} "
	if own {
		who, thing = "{client} ", "its own registration"
	}
	form := who + does[0]
	if e.Outcome == Refused {
		form = who + "may not " + does[1]
	}
	if !strings.Contains(form, "%") {
		form += " %"
	}
	form = strings.Replace(form, "%", thing, 1)
	if e.Outcome == Refused {
		return form + "[: {why}]", true
	}
	return form + "[; {grants_ended} ended with it]", true
}

var (
	optional = regexp.MustCompile(`\[[^\[\]]*\]`)
	word     = regexp.MustCompile(`\{[a-z_]+\??\}`)
)

// fill puts what the words in braces stand for into text. It looks at each part of text once, because what a word
// stands for may have braces too.
func (e Event) fill(text string, names Names) string {
	var told strings.Builder
	put := func(part string) (filled string, whole bool) {
		whole = true
		return word.ReplaceAllStringFunc(part, func(w string) string {
			value, ok := e.value(w[1:len(w)-1], names)
			whole = whole && ok
			return value
		}), whole
	}
	for text != "" {
		at := optional.FindStringIndex(text)
		if at == nil {
			at = []int{len(text), len(text)}
		}
		filled, _ := put(text[:at[0]])
		told.WriteString(filled)
		if part := text[at[0]:at[1]]; part != "" {
			if filled, whole := put(part[1 : len(part)-1]); whole {
				told.WriteString(filled)
			}
		}
		text = text[at[1]:]
	}
	return told.String()
}

// value returns what a word stands for, and false if that is nothing. A word with a question mark is nothing if it
// would stand for somebody unknown.
func (e Event) value(name string, names Names) (string, bool) {
	switch name {
	case "client", "client?":
		value := Clean(cmp.Or(names.Client, e.ClientID, e.Detail["name"]))
		return cmp.Or(value, "a client"), value != "" || name == "client"
	case "person", "person?":
		value := Clean(cmp.Or(names.Person, e.UserID))
		return cmp.Or(value, "somebody"), value != "" || name == "person"
	case "resource":
		value := Clean(cmp.Or(names.Resource, e.Resource))
		return value, value != ""
	case "actor":
		return e.actor(names), true
	case "scope":
		scopes := names.scopes(strings.Fields(e.Scope))
		return cmp.Or(listed(scopes), "what it asked for"), len(scopes) > 0
	case "why":
		value := cleaned(cmp.Or(e.Description, e.Reason), 300)
		return value, value != ""
	case "end":
		why := e.Detail["why"]
		if text, ok := ends[why]; ok {
			return e.fill(text, names), true
		}
		return cmp.Or(Clean(strings.ReplaceAll(why, "_", " ")), "it was over"), true
	case "action":
		return Clean(e.Action), true
	case "limit":
		return Clean(strings.ReplaceAll(strings.TrimPrefix(e.Action, "limit."), "_", " ")), true
	case "credential":
		return cmp.Or(credentials[e.Detail["grant_type"]], "A token request"), true
	case "how":
		value := ways[e.Detail["grant_type"]]
		return value, value != ""
	case "what":
		return kindOfToken(strings.ReplaceAll(Clean(e.Detail["what"]), "_", " ")), true
	case "changed":
		value := listed(e.members())
		return value, value != ""
	case "role_before":
		return role(e.Before), true
	case "role_after":
		return role(e.After), true
	case "grants_ended":
		return counted(e.Detail[name], "grant")
	case "sessions_ended":
		return counted(e.Detail[name], "session")
	case "remembered":
		return "", e.Detail["consent"] == "remembered"
	case "elsewhere":
		return "", e.Detail["address"] == "other"
	case "known":
		return "", e.Detail["known"] == "true"
	case "grants_kept":
		return "", e.Detail["grants_kept"] == "yes"
	case "failed":
		return "", e.Outcome == Failed
	}
	value := Clean(e.Detail[name])
	return value, value != ""
}

// actor returns the name of the actor, or its id.
func (e Event) actor(names Names) string {
	value := e.Actor.Name
	if value == "" && e.Actor.ID == e.UserID {
		value = names.Person
	}
	if value == "" && e.Actor.ID == e.ClientID {
		value = names.Client
	}
	return cmp.Or(Clean(cmp.Or(value, e.Actor.ID)), "Somebody")
}

// kindOfToken returns the kind of a token with its article.
func kindOfToken(kind string) string {
	switch kind {
	case "":
		return "a token"
	case "unknown":
		return "a token that is not known"
	case "access token", "authorization code":
		return "an " + kind
	}
	return "a " + kind
}

// counted returns n with the noun for so many, and false if n is empty.
func counted(n, noun string) (string, bool) {
	switch n {
	case "":
		return "", false
	case "1":
		return "1 " + noun, true
	}
	return Clean(n) + " " + noun + "s", true
}

// credentials and ways say what a client comes to the token endpoint with, by its grant type.
var (
	credentials = map[string]string{ // #nosec G101 -- words for people, not secrets
		"authorization_code": "The code", "refresh_token": "The refresh token",
		"client_credentials":                              "The request for a token of its own",
		"urn:ietf:params:oauth:grant-type:device_code":    "The device code",
		"urn:ietf:params:oauth:grant-type:jwt-bearer":     "The assertion",
		"urn:ietf:params:oauth:grant-type:token-exchange": "The token to exchange",
	}
	ways = map[string]string{ // #nosec G101 -- as above
		"authorization_code": "with its code", "refresh_token": "with its refresh token",
		"client_credentials":                              "in its own name",
		"urn:ietf:params:oauth:grant-type:device_code":    "with its device code",
		"urn:ietf:params:oauth:grant-type:jwt-bearer":     "with an assertion",
		"urn:ietf:params:oauth:grant-type:token-exchange": "in exchange for another",
	}
)

// members returns the names of the members that a change made different, as words.
func (e Event) members() []string {
	var names []string
	for _, text := range []json.RawMessage{e.Before, e.After} {
		var members map[string]json.RawMessage
		if json.Unmarshal(text, &members) != nil {
			continue
		}
		for name := range maps.Keys(members) {
			names = append(names, strings.ReplaceAll(Clean(name), "_", " "))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// role returns the role in what the fields of an account were or are.
func role(account json.RawMessage) string {
	var has struct{ Role string }
	_ = json.Unmarshal(account, &has) // Changed has written it
	return cmp.Or(Clean(has.Role), "none")
}

// listed joins words: "a", "a and b", "a, b and c".
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// Clean returns s, which a stranger may have chosen, as one line that a terminal or a page can show: without control
// and format characters, which could hide or reorder what follows, and cut after 80 characters.
func Clean(s string) string { return cleaned(s, 80) }

// Plain is Clean for a text that is shown whole, such as what a browser says of itself.
func Plain(s string) string { return cleaned(s, 2000) }

func cleaned(s string, most int) string {
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, s)), " ")
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

// Later says how much later something happened: "14 minutes later". Less than a second is "".
func Later(d time.Duration) string {
	if text := Lasting(d); text != "" {
		return text + " later"
	}
	return ""
}

// Lasting returns a length of time in its largest whole unit: "14 minutes". Less than a second is "".
func Lasting(d time.Duration) string {
	for _, unit := range []struct {
		name string
		d    time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}} {
		switch n := int(d / unit.d); {
		case n == 1:
			return "1 " + unit.name
		case n > 1:
			return strconv.Itoa(n) + " " + unit.name + "s"
		}
	}
	return ""
}
