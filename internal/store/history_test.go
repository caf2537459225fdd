package store_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/libc"
	lite "modernc.org/sqlite/lib"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/scope"
)

// past is how many rows each table of TestHistory has, all of one person, one client and one resource: 4,000, or the
// number in CARDEA_TEST_PAST. There are three times as many events.
var past = func() int {
	if n, err := strconv.Atoi(os.Getenv("CARDEA_TEST_PAST")); err == nil {
		return n
	}
	return 4000
}()

// pastOf fills the tables. $T is the microsecond at which the test begins, $S is a
// second, i counts up to past.
var pastOf = []string{
	`INSERT INTO users (id, email, email_key, name, role, password_hash, created_at)
		SELECT 'usr_' || i, i || '@example.com', i || '@example.com', 'Ada', 'owner', '', $T - i FROM n`,
	`INSERT INTO idempotency_keys (caller, route, key, body_hash, status, body, at, expires_at)
		SELECT 'client mcp_1', 'POST /things', 'key ' || i, '', 200, '', $T - i, $T + i * $S FROM n`,
	`INSERT INTO groups (id, name, description, created_at) SELECT 'grp_' || i, 'group ' || i, '', $T - i FROM n`,
	`INSERT INTO groups (id, name, description, created_at) VALUES ('grp_crowd', 'crowd', '', $T)`,
	`INSERT INTO group_members (group_id, user_id, added_at) SELECT 'grp_crowd', 'usr_' || i, $T - i FROM n`,
	`INSERT INTO group_members (group_id, user_id, added_at) SELECT 'grp_' || i, 'usr_2', $T - i FROM n`,
	`INSERT INTO resources (id, identifier, name, scopes, signing_alg, access_ttl, refresh_idle_ttl, refresh_max_ttl,
			created_at, updated_at)
		VALUES ('res_1', 'https://mcp.example.com', 'Weather', '[]', '', 0, 0, 0, $T, $T)`,
	`INSERT INTO clients (id, origin, metadata, allowed, resources, resource_server, access_ttl, fingerprint,
			created_at, used_at, found_version)
		SELECT 'mcp_' || i, 'registration', '{"client_name":"Agent ' || i || '"}', '', '', '', 0, 'print ' || i, $T - i,
			CASE WHEN i = 1 THEN $T END, 1 FROM n`,
	// The newest half of these are bound to another server.
	`INSERT INTO clients (id, origin, metadata, allowed, resources, resource_server, access_ttl, created_at,
			found_version)
		SELECT 'mcp_op_' || i, 'operator', '{"client_name":"Machine ' || i || '"}', '',
			CASE WHEN i > 2000 THEN 'https://mcp.example.com' ELSE 'https://another.example.com' END, '', 0, $T - i,
				1 FROM n`,
	`INSERT INTO client_resources (client_id, origin, resource, created_at)
		SELECT id, origin, resources, created_at FROM clients WHERE resources <> ''`,
	`INSERT INTO sessions (hash, user_id, signed_in_at, amr, seen_at, expires_at, ends_at)
		SELECT 'session ' || i, 'usr_1', $T, 'pwd', $T, $T + $S * i, $T + 9000000000 FROM n`,
	// One in four was revoked, one in four has expired, both less than thirty days ago.
	`INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret, generation, amr,
			created_at, last_used_at,
			expires_at, ends_at, revoked_at, revoked_reason, method)
		SELECT 'grt_' || i, 'mcp_1', 'usr_1', 'res_1', 'https://app.example/cb', 'mcp:tools:weather', 1, 'secret', 1,
			'pwd', $T - 86400000000 - $S * i, $T - 86400000000,
			CASE WHEN i % 4 = 2 THEN $T - 1000000 ELSE $T + 86400000000 END, $T + 864000000000,
			CASE WHEN i % 4 = 3 THEN $T - 1000000 END, '', 'none' FROM n`,
	`INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret, generation, amr,
			created_at, expires_at, ends_at, revoked_reason, method)
		VALUES ('grt_new', 'mcp_1', 'usr_1', 'res_1', 'https://app.example/cb', 'mcp:tools:weather', 1, 'secret', 0,
			'pwd', $T, $T + 60000000, $T + 864000000000, '', '')`,
	// Others were disconnected by the person, long ago but for one.
	`INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret, generation, amr,
			created_at, last_used_at,
			expires_at, ends_at, revoked_at, revoked_reason, method)
		SELECT 'grt_past_' || i, 'mcp_3', 'usr_3', 'res_1', 'https://app.example/cb', 'mcp:tools:weather', 1, 'secret',
			1, 'pwd', $T - 86400000000 - $S * i, $T - 86400000000,
			$T + 86400000000, $T + 864000000000, $T - 3600000000 - i, 'person', 'none' FROM n`,
	`INSERT INTO grants (id, client_id, user_id, resource_id, redirect_uri, scope, refreshable, secret, generation, amr,
			created_at, last_used_at, expires_at, ends_at, revoked_at, revoked_reason, method)
		VALUES ('grt_gone', 'mcp_3', 'usr_3', 'res_1', 'https://app.example/cb', 'mcp:tools:weather', 1, 'secret', 1,
			'pwd', $T - 86400000000, $T - 86400000000, $T + 60000000, $T + 864000000000, $T - 1000000, 'person', '')`,
	`INSERT INTO codes (hash, grant_id, redirect_uri, challenge, expires_at, spent_at)
		SELECT 'code ' || i, 'grt_' || i, 'https://app.example/cb', '', $T - 1, $T - 2 FROM n`,
	`INSERT INTO codes (hash, grant_id, redirect_uri, challenge, expires_at)
		VALUES ('code new', 'grt_new', 'https://app.example/cb', '', $T + 60000000)`,
	`INSERT INTO revoked_tokens (jti, expires_at) SELECT 'jti ' || i, $T + $S * i FROM n`,
	`INSERT INTO status_changes (version, kind, subject, at) SELECT i, 'user', 'usr_' || i, $T - $S * i FROM n`,
	`UPDATE versions SET version = (SELECT MAX(version) FROM status_changes) + 1 WHERE kind = 'status'`,
	`INSERT INTO status_blocks (first, size, client_id, audience, prefix, expires_at)
		SELECT 16 * i, 16, 'mcp_1', 'https://mcp.example.com', 'tok_', $T + $S * i FROM n`,
	`UPDATE status_next SET next = (SELECT MAX(first) FROM status_blocks) + 16 WHERE kind = 'm'`,
	`INSERT INTO received_events (source, id, at) SELECT 'https://mcp.example.com', 'id_' || i, $T - $S * i FROM n`,
	// More than a server may have.
	`INSERT INTO resource_tools (resource_id, name, hash, definition, scopes, risk, reviewed_at, seen_hash, seen,
			seen_at)
		SELECT 'res_1', 'tool ' || i, 'sha256:' || i, '{}', '', 'read', $T, 'sha256:' || i, '', $T FROM n`,
	`INSERT INTO decisions (interaction_id, expires_at) SELECT 'req_' || i, $T + $S * i FROM n`,
	`INSERT INTO assertions (hash, expires_at) SELECT 'assertion ' || i, $T + $S * i FROM n`,
	`INSERT INTO initial_access_tokens (id, hash, name, uses, max_uses, created_at)
		SELECT 'iat_' || i, 'iat ' || i, 'CI', 0, 0, $T - i FROM n`,
	// A thousand clients wait at most, and operators make few blocks.
	`INSERT INTO waiting_clients (client_id, first_at, last_at, people, user_id, resource_id, scope, redirect_uri)
		SELECT id, created_at, created_at, 1, 'usr_1', 'res_1', '', 'https://app.example/cb'
			FROM clients WHERE created_at >= $T - 1000`,
	`INSERT INTO totp (user_id, sealed, last_step, created_at) SELECT 'usr_' || i, '', 1, $T FROM n`,
	`INSERT INTO recovery_codes (user_id, hash) SELECT 'usr_' || i, 'code ' || i FROM n`,
	`INSERT INTO identities (id, provider, issuer, subject, user_id, email, groups, credential, created_at, used_at,
			confirmed_at)
		SELECT 'idn_' || i, 'corp', 'https://corp.example', 'sub ' || i, 'usr_' || i, '', '[]', '', $T, $T, $T FROM n`,
	`INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, backup_eligible, backed_up, transports,
			aaguid, name, created_at)
		SELECT 'psk_' || i, 'usr_' || i, 'a2V5' || (100000 + i), '', 1, 0, 0, '', '', '', $T FROM n`,
	`INSERT INTO spent_sign_ins (hash, user_id, expires_at) SELECT 'sign-in ' || i, 'usr_' || i, $T + $S * i FROM n`,
	`INSERT INTO one_time (id, purpose, user_id, email, token_hash, code_hash, tries, browser, request, back,
			keep_grants, expires_at)
		SELECT 'one_' || i, 'reset', 'usr_' || i, '', 'token ' || i, 'code', 0, '', '', '', 0, $T + $S * i FROM n`,
	`INSERT INTO notices (id, event, due_at, expires_at) SELECT 'ntc_' || i, '{}', $T - i, $T + $S * i FROM n`,
	`INSERT INTO external_logins (hash, request, application, answer, expires_at)
		SELECT 'login ' || i, '', '', '', $T + $S * i FROM n`,
	`INSERT INTO invitations (user_id, email, email_key, role, hash, inviter_type, inviter_id, inviter_name, created_at,
			expires_at)
		SELECT 'usr_new_' || i, i || '@example.org', i || '@example.org', '', 'invitation ' || i, 'user', 'usr_1', '',
			$T - i, $T + $S * i FROM n`,
	`INSERT INTO invitation_groups (user_id, group_id) SELECT 'usr_new_' || i, 'grp_crowd' FROM n`,
	`INSERT INTO waiting_people (client_id, user_id) SELECT client_id, 'usr_1' FROM waiting_clients`,
	`INSERT INTO waiting_people (client_id, user_id) SELECT 'mcp_1', id FROM users WHERE id <> 'usr_1'`,
	`INSERT INTO client_approvals (id, client_id, user_id, created_at, expires_at, spent_on)
		SELECT 'apr_' || id, id, 'usr_1', $T, $T + 9000000000, '' FROM clients WHERE created_at >= $T - 1000`,
	`INSERT INTO client_approvals (id, client_id, group_id, created_at, spent_on)
		SELECT 'apr_' || id, 'mcp_2', id, $T, '' FROM groups`,
	`INSERT INTO client_blocks (id, client_id, name, reason, marks, created_at)
		SELECT 'blk_' || id, id, '', '', '{}', created_at FROM clients WHERE created_at >= $T - 50`,
	`INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope,
			detail, request_id, address, user_agent)
		SELECT $T - (3 * i - column1), 'evt_' || (3 * i - column1), 'token.request', 'allowed', '', '', 'mcp_1',
			'usr_1',
			'grt_1', 'https://mcp.example.com', '', '', '', '', '' FROM n, (VALUES (0), (1), (2)) AS three`,
	// A third of them was sealed, each alone.
	`INSERT INTO seals (number, records, begins, ends, events, hashes, codes)
		SELECT i, 1, $T - i, $T - i, ($T - i) || ' evt_' || i || '
', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '' FROM n`,
	`INSERT INTO seal_trees (level, number, hash) SELECT 1, i, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' FROM n`,
	`INSERT INTO checkpoints (size, previous, at, note) SELECT i, i - 1, $T - $S * i, '' FROM n`,
	`INSERT INTO deliveries (name, sent, failures, next_at) SELECT 'hook ' || i, 1, 0, 0 FROM n`,
	`INSERT INTO deliveries (name, sent, failures, next_at) VALUES ('siem', 1, 0, 0)`,
	// Of the refusals, the oldest thousandth are of somebody else.
	`INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope,
			detail, request_id, address, user_agent)
		SELECT $T - i, 'evt_refused_' || i, 'login.sign_in', 'refused', '', '', one, one, one, one, '', '', '', one, ''
		FROM (SELECT i, CASE WHEN i > 3995 THEN 'rare' ELSE 'frequent' END AS one FROM n) AS refusals`,
	// They were allowed more often.
	`INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope,
			detail, request_id, address, user_agent)
		SELECT $T - i, 'evt_rare_' || i, 'token.introspect', 'allowed', '', '', 'rare', 'rare', 'rare', 'rare', '', '',
			'', 'rare', '' FROM n`,
	// This one asked for everything but a token.
	`INSERT INTO events (at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope,
			detail, request_id, address, user_agent)
		SELECT $T - i, 'evt_mcp_2_' || i, 'token.introspect', 'allowed', '', '', 'mcp_2', '', '', '', '', '', '',
			'', '' FROM n`,
}

// An act calls one method of Tx on that past.
type act struct {
	method string
	do     func(tx *store.Tx) error
	// whole says why the method may look at more than others, "" if it may not.
	whole string
}

// A cost of a statement, by engine: steps of SQLite's virtual machine, and pages that PostgreSQL reads.
type cost map[storetest.Engine]int

// bound is what one statement may cost. A look at every row of the past costs many times more.
var bound = cost{storetest.SQLite: 1000, storetest.Postgres: 60}

// These methods look at more than others, and yet at so much only, however long the log is.
const (
	mostEvents   = "it looks at 2,000 events at most"
	newestEvents = "it looks at the 50 newest events of each client on a page"
	mostGrants   = "it looks at 2,000 grants at most"
	fiveAgain    = "it makes five due again"
)

// bounds are what a statement of theirs may cost. A look at all events of the past costs twice as much.
var bounds = map[string]cost{
	"":           bound,
	mostEvents:   {storetest.SQLite: 80000, storetest.Postgres: 80},
	newestEvents: {storetest.SQLite: 1500, storetest.Postgres: 80},
	mostGrants:   {storetest.SQLite: 20000, storetest.Postgres: 3500},
	fiveAgain:    {storetest.SQLite: 1000, storetest.Postgres: 90},
}

func acts(now time.Time) []act {
	few := store.Page{Limit: 5, Newest: true}
	later := now.Add(time.Hour)
	grant := &oauth.Grant{ID: "grt_another", ClientID: "mcp_1", UserID: "usr_1", ResourceID: "res_1",
		RedirectURI: "https://app.example/cb", Scope: scope.Of("mcp:tools:weather"), CreatedAt: now,
		ExpiresAt: now.Add(time.Minute), EndsAt: later}
	client := &oauth.Client{ID: "mcp_another", Origin: oauth.ByRegistration, CreatedAt: now}
	known := &oauth.Client{ID: "mcp_1"}
	known.RedirectURIs = []string{"https://app.example/another"}
	resource := &oauth.Resource{ID: "res_another", Identifier: "https://another.example.com", CreatedAt: now,
		UpdatedAt: now}
	var none string
	ok := func(_ any, err error) error { return err }
	listed := func(_ any, _ string, err error) error { return err }
	judged := func(of store.Subject, id string) func(*store.Tx) error {
		return func(tx *store.Tx) error { return ok(tx.StatusGrants(store.Change{Subject: of, ID: id}, nil, 5)) }
	}
	blocks := func(of store.Subject, id string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			return ok(tx.StatusBlocks(store.Change{Subject: of, ID: id}, &store.StatusBlock{First: 100}, 5))
		}
	}
	events := func(filter store.EventFilter) func(*store.Tx) error {
		return func(tx *store.Tx) error { return listed(tx.Events(filter, few)) }
	}
	grants := func(filter store.GrantFilter) func(*store.Tx) error {
		return func(tx *store.Tx) error { return listed(tx.Grants(filter, few)) }
	}
	return []act{
		{"Approval", func(tx *store.Tx) error { return ok(tx.Approval("mcp_1", "usr_1", "req_1")) }, none},
		{"ApproveForGroup", func(tx *store.Tx) error { return tx.ApproveForGroup("mcp_1", "grp_crowd") }, none},
		{"ApproveOnce", func(tx *store.Tx) error { return tx.ApproveOnce("mcp_1", "usr_1", later) }, none},
		{"ApprovedGroups", func(tx *store.Tx) error { return ok(tx.ApprovedGroups("mcp_1")) },
			"an operator sees them all"},
		{"InInbox", func(tx *store.Tx) error { return ok(tx.InInbox("mcp_1", "mcp_4000")) }, none},
		{"EndGroupApproval", func(tx *store.Tx) error { return ok(tx.EndGroupApproval("mcp_2", "grp_crowd")) }, none},
		{"Block", func(tx *store.Tx) error { return ok(tx.Block("mcp_1")) }, none},
		{"Blocks", func(tx *store.Tx) error { return listed(tx.Blocks(few)) }, none},
		{"BlocksNow", func(tx *store.Tx) error { return ok(tx.BlocksNow()) },
			"operators make few blocks, and memory has them"},
		{"CreateBlock", func(tx *store.Tx) error {
			return tx.CreateBlock(&oauth.Block{ID: "blk_another", ClientID: "mcp_another", CreatedAt: now})
		}, none},
		{"DeleteBlock", func(tx *store.Tx) error { return tx.DeleteBlock("blk_mcp_1") }, none},
		{"Connected", func(tx *store.Tx) error { return listed(tx.Connected("usr_1", few)) }, none},
		{"Disconnect", func(tx *store.Tx) error { return ok(tx.Disconnect("usr_1", "grt_1")) }, none},
		{"DisconnectAll", func(tx *store.Tx) error { return ok(tx.DisconnectAll("usr_1")) },
			"it ends every live grant of the person"},
		{"Disconnected", func(tx *store.Tx) error { return ok(tx.Disconnected("usr_3", now.Add(-10*time.Minute))) },
			none},
		{"EndOtherSessions", func(tx *store.Tx) error { return ok(tx.EndOtherSessions("usr_1", "session 1")) },
			"it ends every other session of the person"},
		{"Restore", func(tx *store.Tx) error { return ok(tx.Restore("usr_3", "grt_gone", now.Add(-10*time.Minute))) },
			none},
		{"TakeSession", func(tx *store.Tx) error { return ok(tx.TakeSession("session 1", "usr_1")) }, none},
		{"RevokeOwnSession", func(tx *store.Tx) error {
			if err := tx.RevokeOwnSession("usr_1", "ses_another"); !errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("a session that is not there: %w", err)
			}
			return nil
		}, none},
		{"Dismiss", func(tx *store.Tx) error { return ok(tx.Dismiss("mcp_1")) },
			"it forgets everybody who waits for the client"},
		{"EndApprovals", func(tx *store.Tx) error { return ok(tx.EndApprovals("mcp_1")) },
			"it ends every approval of the client"},
		{"EndWaiting", func(tx *store.Tx) error { return tx.EndWaiting("mcp_1") },
			"it forgets everybody who waits for the client"},
		{"RevokeClientGrants", func(tx *store.Tx) error { return tx.RevokeClientGrants("mcp_1", "client_blocked") },
			"it ends every live grant of the client"},
		{"SpendApproval", func(tx *store.Tx) error { return ok(tx.SpendApproval("mcp_1", "usr_1", "req_1", later)) },
			none},
		{"Wait", func(tx *store.Tx) error {
			return ok(tx.Wait(&store.Waiting{ClientID: "mcp_2", UserID: "usr_2"}))
		}, none},
		{"Waiting", func(tx *store.Tx) error { _, _, err := tx.Waiting("mcp_1", "usr_1"); return err }, none},
		{"WaitingClients", func(tx *store.Tx) error { return listed(tx.WaitingClients(few)) }, none},
		{"WaitingCount", func(tx *store.Tx) error { return ok(tx.WaitingCount()) }, "a thousand clients wait at most"},
		{"WaitingOf", func(tx *store.Tx) error { return ok(tx.WaitingOf("usr_2")) },
			"a person makes twenty clients wait at most"},
		{"AnotherCode", func(tx *store.Tx) error {
			begun := store.Decision{UserID: "usr_1", GrantID: "grt_new"}
			if _, _, err := tx.Decide("req_new", begun, later); err != nil {
				return err
			}
			return ok(tx.AnotherCode("req_new", begun, later))
		}, none},
		{"Client", func(tx *store.Tx) error { return ok(tx.Client("mcp_1")) }, none},
		{"ClientByFingerprint", func(tx *store.Tx) error { return ok(tx.ClientByFingerprint("print 1")) }, none},
		{"ClientUsed", func(tx *store.Tx) error { return tx.ClientUsed("mcp_2") }, none},
		{"Clients", func(tx *store.Tx) error { return listed(tx.Clients(store.ClientFilter{}, few)) }, none},
		{"Clients by origin", func(tx *store.Tx) error {
			return listed(tx.Clients(store.ClientFilter{Origin: oauth.ByRegistration}, few))
		}, none},
		{"Clients by resource", func(tx *store.Tx) error {
			return listed(tx.Clients(store.ClientFilter{Resource: "https://mcp.example.com"}, few))
		}, none},
		{"Clients by origin and resource", func(tx *store.Tx) error {
			return listed(tx.Clients(store.ClientFilter{Origin: oauth.ByOperator, Resource: "https://mcp.example.com"},
				few))
		}, none},
		{"Clients that begin", func(tx *store.Tx) error {
			return listed(tx.Clients(store.ClientFilter{}, store.Page{Limit: 5, Begins: "Agent"}))
		}, none},
		{"Clients of an origin that begin", func(tx *store.Tx) error {
			return listed(tx.Clients(store.ClientFilter{Origin: oauth.ByRegistration},
				store.Page{Limit: 5, Begins: "Agent 1"}))
		}, none},
		{"Clients of another origin that begin", func(tx *store.Tx) error {
			return listed(tx.Clients(store.ClientFilter{Origin: oauth.ByOperator},
				store.Page{Limit: 5, Begins: "Agent"}))
		}, none},
		{"Code", func(tx *store.Tx) error { return ok(tx.Code("code new")) }, none},
		{"CompleteSetup", func(tx *store.Tx) error { return ok(tx.CompleteSetup("setup")) }, none},
		{"Consents", func(tx *store.Tx) error {
			return ok(tx.Consents("usr_1", "mcp_1", "res_1", "https://app.example/cb"))
		}, none},
		{"CreateClient", func(tx *store.Tx) error { return tx.CreateClient(client, "print of another") }, none},
		{"CreateClients", func(tx *store.Tx) error {
			others := *client
			others.ID, others.Incarnation = "mcp_yet_another", "inc_yet_another"
			taken, err := tx.CreateClients(store.NewClient{Client: &others, Fingerprint: "print of yet another"},
				store.NewClient{Client: client, Fingerprint: "print of yet another"})
			if err == nil && len(taken) != 1 {
				err = fmt.Errorf("%d are taken", len(taken))
			}
			return err
		}, none},
		{"CreateGrant", func(tx *store.Tx) error { return tx.CreateGrant(grant) }, none},
		{"CreateCode", func(tx *store.Tx) error {
			return tx.CreateCode(&oauth.Code{Hash: "code another", GrantID: "grt_1", ExpiresAt: later})
		}, none},
		{"CreateGroup", func(tx *store.Tx) error {
			return tx.CreateGroup(&identity.Group{ID: "grp_another", Name: "another", CreatedAt: now})
		}, none},
		{"HasDueNotices", func(tx *store.Tx) error { return ok(tx.HasDueNotices()) }, none},
		{"TakeNotices", func(tx *store.Tx) error { return ok(tx.TakeNotices(5)) }, fiveAgain},
		{"KeepNotice", func(tx *store.Tx) error { return tx.KeepNotice("ntc_2") }, none},
		{"DeleteNotice", func(tx *store.Tx) error { return tx.DeleteNotice("ntc_3") }, none},
		{"CreateInitialToken", func(tx *store.Tx) error {
			return tx.CreateInitialToken(&oauth.InitialAccessToken{ID: "iat_another", Hash: "iat another",
				CreatedAt: now})
		}, none},
		{"Invite", func(tx *store.Tx) error {
			return tx.Invite(&identity.Invitation{ID: "usr_invited", Email: "another@example.org", Hash: "another",
				CreatedAt: now, ExpiresAt: later})
		}, none},
		{"InviteInto", func(tx *store.Tx) error { return tx.InviteInto("grp_2", "usr_new_1") }, none},
		{"Invitation", func(tx *store.Tx) error { return ok(tx.Invitation("2@example.org")) }, none},
		{"InvitationByToken", func(tx *store.Tx) error { return ok(tx.InvitationByToken("invitation 2")) }, none},
		{"Invitations", func(tx *store.Tx) error { return listed(tx.Invitations(few)) }, none},
		{"SpendInvitation", func(tx *store.Tx) error { return tx.SpendInvitation("invitation 3") }, none},
		{"DeleteInvitation", func(tx *store.Tx) error { return tx.DeleteInvitation("usr_new_4") }, none},
		{"CreateKey", func(tx *store.Tx) error {
			return tx.CreateKey(store.Key{KID: "kid", CreatedAt: now, ActiveAt: now})
		}, none},
		{"CreateResource", func(tx *store.Tx) error { return tx.CreateResource(resource) }, none},
		{"CreateSession", func(tx *store.Tx) error {
			return tx.CreateSession(&identity.Session{Hash: "session another", UserID: "usr_1", ExpiresAt: later,
				EndsAt: later})
		}, none},
		{"CreateUser", func(tx *store.Tx) error {
			return tx.CreateUser(&identity.User{ID: "usr_another", Email: "another@example.com", CreatedAt: now})
		}, none},
		{"AddMember", func(tx *store.Tx) error { return ok(tx.AddMember("grp_2", "usr_1")) }, none},
		{"ConfirmPassword", func(tx *store.Tx) error {
			user, err := tx.User("usr_1")
			if err != nil {
				return err
			}
			return tx.ConfirmPassword("usr_1", user.PasswordHash, "hash")
		}, none},
		{"Decide", func(tx *store.Tx) error {
			_, _, err := tx.Decide("req_another", store.Decision{}, later)
			return err
		}, none},
		{"Definitions", func(tx *store.Tx) error { return ok(tx.Definitions("res_1", "read", "write")) }, none},
		{"DeleteClient", func(tx *store.Tx) error { return tx.DeleteClient("mcp_1") },
			"it ends every live grant of the client"},
		{"DeleteGroup", func(tx *store.Tx) error { return tx.DeleteGroup("grp_crowd") },
			"it ends every membership of the group"},
		{"DeleteResource", func(tx *store.Tx) error { return tx.DeleteResource("res_1") },
			"it ends every live grant of the resource"},
		{"DeleteTool", func(tx *store.Tx) error { return tx.DeleteTool("res_1", "tool 1") }, none},
		{"DeleteUser", func(tx *store.Tx) error { return tx.DeleteUser("usr_1") },
			"it ends every live grant and session of the account"},
		{"CreateIdentity", func(tx *store.Tx) error {
			return tx.CreateIdentity(&identity.Identity{ID: "idn_another", Provider: "corp", Subject: "another",
				UserID: "usr_1"})
		}, none},
		{"Identity", func(tx *store.Tx) error { return ok(tx.Identity("corp", "https://corp.example", "sub 2")) },
			none},
		{"IdentityByID", func(tx *store.Tx) error { return ok(tx.IdentityByID("idn_2")) }, none},
		{"Identities", func(tx *store.Tx) error { return ok(tx.Identities("usr_2")) }, none},
		{"UseIdentity", func(tx *store.Tx) error {
			return tx.UseIdentity(&identity.Identity{ID: "idn_2", UserID: "usr_2"})
		}, none},
		{"ConfirmIdentity", func(tx *store.Tx) error { return ok(tx.ConfirmIdentity("idn_2", "", "sealed")) }, none},
		{"DeleteIdentity", func(tx *store.Tx) error { return tx.DeleteIdentity("idn_2", "usr_2") }, none},
		{"CreatePasskey", func(tx *store.Tx) error {
			return tx.CreatePasskey(&identity.Passkey{ID: "psk_another", UserID: "usr_1",
				CredentialID: []byte("another"), CreatedAt: now})
		}, none},
		{"Passkey", func(tx *store.Tx) error {
			if _, err := tx.Passkey([]byte("unknown")); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}, none},
		{"Passkeys", func(tx *store.Tx) error { return ok(tx.Passkeys("usr_2")) }, none},
		{"HasPasskey", func(tx *store.Tx) error { return ok(tx.HasPasskey("usr_2")) }, none},
		{"UsePasskey", func(tx *store.Tx) error {
			return tx.UsePasskey(&identity.Passkey{ID: "psk_2", UserID: "usr_2", SignCount: 2})
		}, none},
		{"RenamePasskey", func(tx *store.Tx) error { return tx.RenamePasskey("psk_2", "usr_2", "key") }, none},
		{"DeletePasskey", func(tx *store.Tx) error { return tx.DeletePasskey("psk_2", "usr_2") }, none},
		{"DeletePasskeys", func(tx *store.Tx) error { return ok(tx.DeletePasskeys("usr_3")) }, none},
		{"SpendSignIn", func(tx *store.Tx) error { return tx.SpendSignIn("sign-in another", "usr_1", later) }, none},
		{"SpentSignIn", func(tx *store.Tx) error { return ok(tx.SpentSignIn("sign-in 2")) }, none},
		{"VerifyEmail", func(tx *store.Tx) error { return tx.VerifyEmail("usr_2", "2@example.com") }, none},
		{"CreateOneTime", func(tx *store.Tx) error {
			return tx.CreateOneTime(&store.OneTime{ID: "one_another", TokenHash: "another", ExpiresAt: later})
		}, none},
		{"OneTime", func(tx *store.Tx) error { return ok(tx.OneTime("one_2")) }, none},
		{"OneTimeByToken", func(tx *store.Tx) error { return ok(tx.OneTimeByToken("token 2")) }, none},
		{"SpendOneTime", func(tx *store.Tx) error { return tx.SpendOneTime("one_2") }, none},
		{"TryCode", func(tx *store.Tx) error { return ok(tx.TryCode("one_2", "code")) }, none},
		{"SetLoginClient", func(tx *store.Tx) error { return tx.SetLoginClient("mcp_1") }, none},
		{"LoginClient", func(tx *store.Tx) error {
			if err := tx.SetLoginClient("mcp_1"); err != nil {
				return err
			}
			return ok(tx.LoginClient())
		}, none},
		{"AnswerLogin", func(tx *store.Tx) error { return tx.AnswerLogin(store.ExternalLogin{Hash: "login another"}) },
			none},
		{"ExternalLogin", func(tx *store.Tx) error { return ok(tx.ExternalLogin("login 2")) }, none},
		{"ConfirmUser", func(tx *store.Tx) error {
			user, err := tx.User("usr_1")
			if err != nil {
				return err
			}
			return tx.ConfirmUser("usr_1", user.Version)
		}, none},
		{"CreateTOTP", func(tx *store.Tx) error {
			err := tx.CreateUser(&identity.User{ID: "usr_app", Email: "app@example.com", CreatedAt: now})
			if err != nil {
				return err
			}
			return tx.CreateTOTP(&identity.TOTP{UserID: "usr_app", CreatedAt: now})
		}, none},
		{"TOTP", func(tx *store.Tx) error { return ok(tx.TOTP("usr_2")) }, none},
		{"SpendTOTP", func(tx *store.Tx) error { return tx.SpendTOTP("usr_2", 2) }, none},
		{"SetRecoveryCodes", func(tx *store.Tx) error { return tx.SetRecoveryCodes("usr_1", []string{"a", "b"}) },
			none},
		{"RecoveryCodes", func(tx *store.Tx) error { return ok(tx.RecoveryCodes("usr_2")) }, none},
		{"SpendRecoveryCode", func(tx *store.Tx) error { return tx.SpendRecoveryCode("usr_2", "code 2") }, none},
		{"DeleteSecondFactor", func(tx *store.Tx) error { return tx.DeleteSecondFactor("usr_2") }, none},
		{"InStrictGroup", func(tx *store.Tx) error { return ok(tx.InStrictGroup("usr_2")) }, none},
		{"UpdateGroup", func(tx *store.Tx) error {
			return tx.UpdateGroup(&identity.Group{ID: "grp_crowd", Description: "everybody"})
		}, none},
		{"DisableClient", func(tx *store.Tx) error { return tx.DisableClient("mcp_1") }, none},
		{"DisableUser", func(tx *store.Tx) error { return tx.DisableUser("usr_1") },
			"it ends every session of the account"},
		{"EnableClient", func(tx *store.Tx) error { return tx.EnableClient("mcp_1") }, none},
		{"EnableUser", func(tx *store.Tx) error { return tx.EnableUser("usr_1") }, none},
		{"PutACMEFile", func(tx *store.Tx) error { return tx.PutACMEFile(&store.ACMEFile{Name: "a/b"}) }, none},
		{"ACMEFile", func(tx *store.Tx) error {
			if err := tx.PutACMEFile(&store.ACMEFile{Name: "a/b"}); err != nil {
				return err
			}
			return ok(tx.ACMEFile("a/b"))
		}, none},
		{"ACMEFiles", func(tx *store.Tx) error { return ok(tx.ACMEFiles()) }, none},
		{"DeleteACMEFiles", func(tx *store.Tx) error { return tx.DeleteACMEFiles("a") }, none},
		{"TakeACMELock", func(tx *store.Tx) error { return ok(tx.TakeACMELock("a", "me", time.Minute)) }, none},
		{"FreeACMELock", func(tx *store.Tx) error { return tx.FreeACMELock("a", "me") }, none},
		{"EndSetup", func(tx *store.Tx) error { return tx.EndSetup() }, none},
		{"EndSession", func(tx *store.Tx) error { return tx.EndSession("session 1") }, none},
		{"EndSessions", func(tx *store.Tx) error { return tx.EndSessions("usr_1") },
			"it ends every session of the account"},
		{"Events", events(store.EventFilter{}), none},
		{"Events", events(store.EventFilter{ClientID: "mcp_1"}), none},
		{"Events", events(store.EventFilter{UserID: "usr_1"}), none},
		{"Events", events(store.EventFilter{GrantID: "grt_1"}), none},
		{"Event", func(tx *store.Tx) error {
			if _, err := tx.Event(oauth.NewTimedID("evt_", now)); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}, none},
		{"Events", events(store.EventFilter{Resource: "https://mcp.example.com"}), none},
		{"Events", events(store.EventFilter{Address: "192.0.2.1"}), none},
		{"Events", events(store.EventFilter{RequestID: "req"}), none},
		{"Events", events(store.EventFilter{Actor: "command:ada"}), none},
		{"Events", events(store.EventFilter{Action: "token."}),
			mostEvents},
		{"Events", events(store.EventFilter{Outcome: audit.Refused}), none},
		{"Events", events(store.EventFilter{Outcome: audit.Refused, ClientID: "rare"}), none},
		{"Events", events(store.EventFilter{Outcome: audit.Refused, UserID: "rare"}), none},
		{"Events", events(store.EventFilter{Outcome: audit.Refused, GrantID: "rare"}), none},
		{"Events", events(store.EventFilter{Outcome: audit.Refused, Resource: "rare"}), none},
		{"Events", events(store.EventFilter{Outcome: audit.Refused, Address: "rare"}), none},
		{"Events", events(store.EventFilter{ClientID: "mcp_1", Resource: "https://mcp.example.com"}), mostEvents},
		{"Flow", func(tx *store.Tx) error {
			return ok(tx.Flow(audit.Event{ID: "evt_1", At: now, GrantID: "grt_1"}, few))
		}, none},
		{"Tallies", func(tx *store.Tx) error {
			_, _, err := tx.Tallies(now.Truncate(time.Hour), later, time.Hour)
			return err
		}, "it counts what is not tallied yet, 50,000 events at most"},
		{"ActiveClients", func(tx *store.Tx) error {
			return ok(tx.ActiveClients(now.Truncate(time.Hour), later, time.Hour))
		}, "it counts what is not tallied yet, 50,000 events at most"},
		{"RenewalDue", func(tx *store.Tx) error { return ok(tx.RenewalDue("mcp_1", later)) }, none},
		{"RenewClient", func(tx *store.Tx) error { return tx.RenewClient("mcp_1") }, none},
		{"ForgetUnusedClients", func(tx *store.Tx) error { return ok(tx.ForgetUnusedClients(later, 5)) }, none},
		{"Grant", func(tx *store.Tx) error { return ok(tx.Grant("grt_1")) }, none},
		{"Grants", grants(store.GrantFilter{}), none},
		{"Grants", grants(store.GrantFilter{UserID: "usr_1"}), none},
		{"Grants", grants(store.GrantFilter{ClientID: "mcp_1"}), none},
		{"Grants", grants(store.GrantFilter{ResourceID: "res_1"}), none},
		{"Grants", grants(store.GrantFilter{UserID: "usr_1", ClientID: "mcp_1", Live: true}), mostGrants},
		{"Group", func(tx *store.Tx) error { return ok(tx.Group("crowd")) }, none},
		{"Groups", func(tx *store.Tx) error { return listed(tx.Groups(few)) }, none},
		{"Groups that begin",
			func(tx *store.Tx) error { return listed(tx.Groups(store.Page{Limit: 5, Begins: "group"})) }, none},
		{"Answer", func(tx *store.Tx) error {
			if _, err := tx.Answer("client mcp_1", "POST /things", "another"); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}, none},
		{"KeepAnswer", func(tx *store.Tx) error {
			return tx.KeepAnswer("client mcp_new", "POST /things", "key", &store.Answer{BodyHash: "hash", Status: 200})
		}, none},
		{"ClientsLastUsed", func(tx *store.Tx) error { return ok(tx.ClientsLastUsed("mcp_1", "mcp_2")) }, newestEvents},
		{"GrantParties", func(tx *store.Tx) error { _, _, err := tx.GrantParties("grt_1"); return err }, none},
		{"InitialToken", func(tx *store.Tx) error { return ok(tx.InitialToken("iat_1")) }, none},
		{"InitialTokens", func(tx *store.Tx) error { return listed(tx.InitialTokens(few)) }, none},
		{"Keys", func(tx *store.Tx) error { return ok(tx.Keys()) }, none},
		{"LiveGrants", func(tx *store.Tx) error { return ok(tx.LiveGrants(store.GrantFilter{UserID: "usr_1"})) },
			"an operator is told what a reset ended"},
		{"LiveInitialToken", func(tx *store.Tx) error { return ok(tx.LiveInitialToken("iat 1")) }, none},
		{"LockClient", func(tx *store.Tx) error { return ok(tx.LockClient("mcp_1")) }, none},
		{"LockDeclared", func(tx *store.Tx) error { return tx.LockDeclared() }, none},
		{"LockGroup", func(tx *store.Tx) error { return ok(tx.LockGroup("crowd")) }, none},
		{"LockInvitedGroups", func(tx *store.Tx) error { return ok(tx.LockInvitedGroups("usr_new_1")) }, none},
		{"LockKeys", func(tx *store.Tx) error { return ok(tx.LockKeys()) }, none},
		{"LockOwners", func(tx *store.Tx) error { return ok(tx.LockOwners()) }, none},
		{"LockResource", func(tx *store.Tx) error { return ok(tx.LockResource("https://mcp.example.com")) }, none},
		{"LockUser", func(tx *store.Tx) error { return ok(tx.LockUser("1@example.com")) }, none},
		{"CountMembers", func(tx *store.Tx) error { return ok(tx.CountMembers("grp_crowd")) },
			"it counts the group, once when that is deleted"},
		{"Members", func(tx *store.Tx) error { return listed(tx.Members("grp_crowd", few)) }, none},
		{"Names", func(tx *store.Tx) error {
			return ok(tx.Names([]string{"mcp_1", "mcp_gone"}, []string{"usr_1", "usr_2"},
				[]string{"https://mcp.example.com"}))
		}, none},
		{"OfferSetup", func(tx *store.Tx) error { return ok(tx.OfferSetup("setup", later)) }, none},
		{"Parties", func(tx *store.Tx) error { return ok(tx.Parties("mcp_1", "res_1", "usr_1")) }, none},
		{"ProfileUsed", func(tx *store.Tx) error { return tx.ProfileUsed("cursor") }, none},
		{"ProfileUses", func(tx *store.Tx) error { return ok(tx.ProfileUses()) }, none},
		{"PutBuiltIn", func(tx *store.Tx) error { return ok(tx.PutBuiltIn(resource)) }, none},
		{"PutTool", func(tx *store.Tx) error { return tx.PutTool("res_1", &store.Tool{Name: "tool 1"}) }, none},
		{"Receive", func(tx *store.Tx) error { return ok(tx.Receive("https://mcp.example.com", []string{"a", "b"})) }, none},
		{"RedeemGrant", func(tx *store.Tx) error { return tx.RedeemGrant("grt_new", 1, later, oauth.MethodNone) },
			none},
		{"RemoveMember", func(tx *store.Tx) error { return ok(tx.RemoveMember("grp_crowd", "usr_1")) }, none},
		{"ReplaceMetadata", func(tx *store.Tx) error { return tx.ReplaceMetadata(known, false) }, none},
		{"ReplaceSecret", func(tx *store.Tx) error { return tx.ReplaceSecret("mcp_1", "hash", later) }, none},
		{"Resource", func(tx *store.Tx) error { return ok(tx.Resource("https://mcp.example.com")) }, none},
		{"ResourcePage", func(tx *store.Tx) error { return listed(tx.ResourcePage(few)) }, none},
		{"ResourcePage that begins",
			func(tx *store.Tx) error { return listed(tx.ResourcePage(store.Page{Limit: 5, Begins: "w"})) }, none},
		{"Resources", func(tx *store.Tx) error { return ok(tx.Resources()) }, none},
		{"RevokeGrant", func(tx *store.Tx) error { return ok(tx.RevokeGrant("grt_1", "operator")) }, none},
		{"RevokeInitialToken", func(tx *store.Tx) error { return ok(tx.RevokeInitialToken("iat_1")) }, none},
		{"RevokeSession", func(tx *store.Tx) error {
			if _, err := tx.RevokeSession("ses_another"); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}, "an operator names it by its id alone, so it is looked for among those that are not over"},
		{"RevokeToken", func(tx *store.Tx) error {
			return ok(tx.RevokeToken(&oauth.Claims{ID: "jti another", Expiry: later.Unix()}))
		}, none},
		{"RevokeUserGrants", func(tx *store.Tx) error { return tx.RevokeUserGrants("usr_1", "password_reset") },
			"it ends every live grant of the account"},
		{"BeginDeliveries", func(tx *store.Tx) error { return tx.BeginDeliveries("another", 1) }, none},
		{"Checkpoints", func(tx *store.Tx) error { return ok(tx.Checkpoints(500, 5)) }, none},
		{"ClaimDelivery", func(tx *store.Tx) error { return ok(tx.ClaimDelivery("siem", later)) }, none},
		{"DeleteOlder", func(tx *store.Tx) error { return ok(tx.DeleteOlder(later, 5)) }, none},
		{"Delivery", func(tx *store.Tx) error { return ok(tx.Delivery("siem")) }, none},
		{"EmptySeals", func(tx *store.Tx) error { return ok(tx.EmptySeals(5, 5)) }, none},
		{"EndDelivery", func(tx *store.Tx) error { return tx.EndDelivery("siem", 1, store.Delivery{}) }, none},
		{"EventKeys", func(tx *store.Tx) error { return ok(tx.EventKeys(now.Add(-time.Second), "", 5)) },
			"it looks at what was sealed in the ten minutes after the events"},
		{"EventsOlder", func(tx *store.Tx) error { return ok(tx.EventsOlder()) }, none},
		{"LastCheckpoint", func(tx *store.Tx) error { return ok(tx.LastCheckpoint()) }, none},
		{"LastCheckpointBefore", func(tx *store.Tx) error { return ok(tx.LastCheckpointBefore(later)) }, none},
		{"EventsRestored", func(tx *store.Tx) error { return ok(tx.EventsRestored()) }, none},
		{"LastRow", func(tx *store.Tx) error { return ok(tx.LastRow()) }, none},
		{"NewestRow", func(tx *store.Tx) error { return ok(tx.NewestRow()) }, none},
		{"LastSeal", func(tx *store.Tx) error { return ok(tx.LastSeal()) }, none},
		{"NumberAt", func(tx *store.Tx) error { return ok(tx.NumberAt(now.Add(-time.Hour), 5)) }, none},
		{"Redeliver", func(tx *store.Tx) error { return tx.Redeliver("siem", 1) }, none},
		{"Seal", func(tx *store.Tx) error {
			waiting, err := tx.Unsealed(10, 2)
			if err != nil {
				return err
			}
			var seals []store.Seal
			for i, r := range waiting {
				seals = append(seals, store.Seal{Number: 900000 + int64(i), At: r.At, ID: r.ID, Hash: make([]byte, 32),
					Code: make([]byte, 16)})
			}
			return tx.Seal(store.Checkpoint{Size: 900002, Previous: 900000, At: now}, seals,
				[]store.Subtree{{Level: 9, Number: 1, Hash: make([]byte, 32)}})
		}, none},
		{"SealHashes", func(tx *store.Tx) error { return ok(tx.SealHashes(0, 500, 505)) }, none},
		{"SealHashes of subtrees", func(tx *store.Tx) error { return ok(tx.SealHashes(1, 5, 10)) }, none},
		{"SealOf", func(tx *store.Tx) error { return ok(tx.SealOf(now.Add(-time.Microsecond), "evt_1")) }, none},
		{"Sealed", func(tx *store.Tx) error { return ok(tx.Sealed(500, 5)) }, none},
		{"Unsealed", func(tx *store.Tx) error { return ok(tx.Unsealed(10, 5)) }, none},
		{"RotateGrant", func(tx *store.Tx) error { return ok(tx.RotateGrant("grt_1", 1, later)) }, none},
		{"SeenSession", func(tx *store.Tx) error { return tx.SeenSession("session 1", later) }, none},
		{"Session", func(tx *store.Tx) error { _, _, err := tx.Session("session 1"); return err }, none},
		{"Sessions", func(tx *store.Tx) error { return listed(tx.Sessions(store.SessionFilter{}, few)) }, none},
		{"StatusChanges", func(tx *store.Tx) error { _, _, err := tx.StatusChanges(int64(past)); return err }, none},
		{"StatusEnd", func(tx *store.Tx) error { _, _, err := tx.StatusEnd(); return err }, none},
		{"ExpiredSince", func(tx *store.Tx) error { return ok(tx.ExpiredSince(now)) }, none},
		{"StatusGrants", judged(store.OneGrant, "grt_1"), none},
		{"StatusGrants", judged(store.OfUser, "usr_1"), none},
		{"StatusGrants", judged(store.OfClient, "mcp_1"), none},
		{"StatusGrants", judged(store.OfResource, "res_1"), none},
		{"StatusGrants", judged(store.Everything, ""), none},
		{"StatusBlocks", blocks(store.OfClient, "mcp_1"), none},
		{"StatusBlocks", blocks(store.OfAudience, "https://mcp.example.com"), none},
		{"StatusBlocks", blocks(store.Everything, ""), none},
		{"ReserveStatus", func(tx *store.Tx) error {
			return ok(tx.ReserveStatus(&oauth.Client{ID: "mcp_1"}, resource, 16, later))
		}, none},
		{"Sessions", func(tx *store.Tx) error {
			return listed(tx.Sessions(store.SessionFilter{UserID: "usr_1"}, store.Page{Limit: 5}))
		}, none},
		{"SetPassword", func(tx *store.Tx) error { return tx.SetPassword("usr_1", "hash") }, none},
		{"SetSettingOnce", func(tx *store.Tx) error { return ok(tx.SetSettingOnce("name", "value")) }, none},
		{"Setting", func(tx *store.Tx) error {
			if _, err := tx.Setting("another"); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}, none},
		{"Setup", func(tx *store.Tx) error { return ok(tx.Setup()) }, none},
		{"SpendAssertion", func(tx *store.Tx) error { return tx.SpendAssertion("assertion another", later) }, none},
		{"SpendCode", func(tx *store.Tx) error { return ok(tx.SpendCode("code new")) }, none},
		{"SpendInitialToken", func(tx *store.Tx) error { return ok(tx.SpendInitialToken("iat 1")) }, none},
		{"TokenParties", func(tx *store.Tx) error {
			_, _, _, err := tx.TokenParties(&oauth.Claims{ID: "grt_1.jti"})
			return err
		}, none},
		{"TokenParties", func(tx *store.Tx) error {
			_, _, _, err := tx.TokenParties(&oauth.Claims{ID: "tok_1.jti", ClientID: "mcp_1",
				Audience: "https://mcp.example.com"})
			return err
		}, none},
		{"ToolScopes", func(tx *store.Tx) error { return ok(tx.ToolScopes("res_1")) },
			"a thousand at most, without what is long"},
		{"Tools", func(tx *store.Tx) error { return ok(tx.Tools("res_1")) },
			"two thousand at most, read when an operator looks"},
		{"Touch", func(tx *store.Tx) error { tx.Touch(store.Clients); return nil }, none},
		{"UnusedClients", func(tx *store.Tx) error { return ok(tx.UnusedClients()) },
			"ten thousand at most, counted once in a hundred registrations"},
		{"UpdateClient", func(tx *store.Tx) error { return tx.UpdateClient(known) }, none},
		{"UpdateKey", func(tx *store.Tx) error {
			if err := tx.UpdateKey(store.Key{KID: "kid"}); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return nil
		}, none},
		{"UpdateResource", func(tx *store.Tx) error { return tx.UpdateResource(&oauth.Resource{ID: "res_1"}) }, none},
		{"UpdateUser", func(tx *store.Tx) error { return tx.UpdateUser(&identity.User{ID: "usr_1"}) }, none},
		{"User", func(tx *store.Tx) error { return ok(tx.User("usr_1")) }, none},
		{"UserGroups", func(tx *store.Tx) error { return ok(tx.UserGroups("usr_1", "usr_3")) }, none},
		{"UserByEmail", func(tx *store.Tx) error { return ok(tx.UserByEmail("1@example.com")) }, none},
		{"Users", func(tx *store.Tx) error { return listed(tx.Users(few)) }, none},
		{"Users that begin", func(tx *store.Tx) error { return listed(tx.Users(store.Page{Limit: 5, Begins: "1"})) },
			none},
		{"Users that share a name",
			func(tx *store.Tx) error { return listed(tx.Users(store.Page{Limit: 5, Begins: "ada"})) }, none},
	}
}

// The cost of a request does not grow with what a person, a client or a resource has
// behind it.
func TestHistory(t *testing.T) {
	var mu sync.Mutex
	var statements []string
	take := func() []string {
		mu.Lock()
		defer mu.Unlock()
		taken := statements
		statements = nil
		return taken
	}
	errUndo := errors.New("undo")
	for _, engine := range engines {
		t.Run(string(engine), func(t *testing.T) {
			dsn := storetest.New(t, engine)
			clock := storetest.NewClock()
			db := storetest.Connect(t, dsn, clock)
			fill(t, dsn, db.Now())
			nameAll(t, dsn, db)
			store.Trace(func(query string, args []any) {
				mu.Lock()
				defer mu.Unlock()
				if !strings.HasPrefix(query, "SELECT kind, version") { // the caches ask in the background
					statements = append(statements, spelledOut(query, args))
				}
			})
			defer store.Trace(nil)
			db = storetest.Connect(t, dsn, clock) // only what is opened from now on is traced
			meter, handle := meter(t, dsn), raw(t, dsn)
			check := func(what string, statements []string, bound cost) {
				t.Helper()
				for _, statement := range statements {
					statement = of(engine, statement)
					if n := meter(statement); n > bound[engine] {
						t.Errorf("%s costs %d, want at most %d: %s", what, n, bound[engine], statement)
					}
					if scanned := scans(t, handle, engine, statement); scanned != "" {
						t.Errorf("%s looks at every row of %s: %s", what, scanned, statement)
					}
				}
			}
			// Rewind changes everything, after a restore, when nobody waits.
			known := map[string]bool{"Now": true, "Record": true, "Address": true, "Conclude": true, "In": true,
				"Rewind": true}
			for _, a := range acts(db.Now()) {
				known[a.method] = true
				bound, ok := bounds[a.whole]
				if !ok { // it may cost anything, and PostgreSQL keeps the rows that it writes, for the next to read
					continue
				}
				take()
				if err := db.Update(t.Context(), func(tx *store.Tx) error {
					if err := a.do(tx); err != nil {
						return fmt.Errorf("%s: %w", a.method, err)
					}
					return errUndo
				}); !errors.Is(err, errUndo) {
					t.Fatal(err)
				}
				asked := take()
				if len(asked) == 0 && !slices.Contains(silent, a.method) {
					t.Errorf("%s asks the database nothing", a.method)
				}
				check(a.method, asked, bound)
			}
			for method := range reflect.TypeFor[*store.Tx]().Methods() {
				if !known[method.Name] {
					t.Errorf("Tx.%s is not among the acts above: add it", method.Name)
				}
			}
			take()
			if _, err := db.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			check("sweeping", take(), bound)
		})
	}
}

// fill writes the past into the database at dsn.
func fill(t testing.TB, dsn string, now time.Time) {
	t.Helper()
	handle := raw(t, dsn)
	for _, insert := range append(pastOf, "ANALYZE") {
		insert = strings.NewReplacer("$T", strconv.FormatInt(now.UnixMicro(), 10), "$S", "CAST(1000000 AS BIGINT)").
			Replace(insert)
		if strings.Contains(insert, " FROM n") {
			insert = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + strconv.Itoa(past) +
				") " + insert
		}
		if _, err := handle.ExecContext(t.Context(), insert); err != nil {
			t.Fatalf("%v: %s", err, insert)
		}
	}
}

// nameAll has the store write the names by which what fill wrote is searched, as after an update of Cardea.
func nameAll(t testing.TB, dsn string, db *store.DB) {
	t.Helper()
	handle := raw(t, dsn)
	if _, err := handle.ExecContext(t.Context(), "DELETE FROM settings WHERE name = 'names_filled'"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	finish := "ANALYZE"
	if !strings.HasPrefix(dsn, "sqlite:") {
		finish = "VACUUM ANALYZE" // now, because a statement reads less after PostgreSQL has done so by itself
	}
	if _, err := handle.ExecContext(t.Context(), finish); err != nil {
		t.Fatal(err)
	}
}

// raw opens the database at dsn without the store.
func raw(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	driver, source := "pgx", dsn
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+filepath.ToSlash(path)+"?_pragma=busy_timeout(10000)&_txlock=immediate"
	}
	handle, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = handle.Close() })
	return handle
}

// spelledOut puts the values into a statement, as SQLite writes them.
func spelledOut(query string, args []any) string {
	places := strings.Split(query, "?") // of parameters without numbers
	for i := len(args) - 1; i >= 0; i-- {
		literal := "NULL"
		switch v := reflect.ValueOf(args[i]); v.Kind() {
		case reflect.Invalid:
		case reflect.String:
			literal = "'" + strings.ReplaceAll(v.String(), "'", "''") + "'"
		case reflect.Slice: // bytes
			literal = fmt.Sprintf("x'%x'", v.Bytes())
		default:
			literal = fmt.Sprint(v)
		}
		if len(places) > 1 {
			places[i] += literal
			continue
		}
		query = strings.ReplaceAll(query, "$"+strconv.Itoa(i+1), literal)
	}
	if len(places) > 1 {
		return strings.Join(places, "")
	}
	return query
}

// bytesOfLite are bytes as SQLite writes them.
var bytesOfLite = regexp.MustCompile(`x'([0-9a-f]*)'`)

// of returns a statement that spelledOut returned as the engine writes it.
func of(engine storetest.Engine, statement string) string {
	if engine == storetest.SQLite {
		return statement
	}
	return bytesOfLite.ReplaceAllString(statement, `'\x$1'::bytea`)
}

// short are the tables that have few rows in any installation, and the subqueries that return few.
var short = []string{"resources", "signing_keys", "settings", "versions", "profile_uses", "setup", "tallied", "newest",
	"next", "fresh", "client_blocks", "acme_files", "acme_locks", "waiting_clients", "resource_names",
	"one", "part", "known", "status_next", "login_client",
	"notices"} // go when they are sent

// silent are the methods that only note something for the end of the transaction.
var silent = []string{"Touch"}

// A scan is a step of a plan that looks at every row of a table, as SQLite and PostgreSQL print it.
var scan = map[storetest.Engine]*regexp.Regexp{
	storetest.SQLite:   regexp.MustCompile(`^SCAN (\w+)$`),
	storetest.Postgres: regexp.MustCompile(`Seq Scan on (\w+)`),
}

// scans returns a long table of which the database looks at every row for a statement, or "".
func scans(t *testing.T, handle *sql.DB, engine storetest.Engine, statement string) string {
	t.Helper()
	explain := "EXPLAIN "
	if engine == storetest.SQLite {
		explain = "EXPLAIN QUERY PLAN "
	}
	rows, err := handle.QueryContext(t.Context(), explain+statement)
	if err != nil {
		t.Fatalf("%v: %s", err, statement)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var line string
		into := []any{&line}
		if engine == storetest.SQLite {
			into = []any{new(any), new(any), new(any), &line}
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		if m := scan[engine].FindStringSubmatch(line); m != nil && !slices.Contains(short, m[1]) {
			return m[1]
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ""
}

// meter returns a function that runs a statement, undoes it, and returns its cost.
func meter(t *testing.T, dsn string) func(statement string) int {
	t.Helper()
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		return liteMeter(t, path)
	}
	handle := raw(t, dsn)
	handle.SetMaxOpenConns(1)
	once := func(statement string) int {
		tx, err := handle.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		var text string
		err = tx.QueryRowContext(context.Background(),
			"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+statement).Scan(&text)
		if refused := (*pgconn.PgError)(nil); errors.As(err, &refused) && refused.Code == "23503" {
			return 0 // it adds a row to another that a statement before it inserts
		}
		if err != nil {
			t.Fatalf("%v: %s", err, statement)
		}
		var plans []struct {
			Plan struct {
				Hit  int `json:"Shared Hit Blocks"`
				Read int `json:"Shared Read Blocks"`
			}
		}
		if err := json.Unmarshal([]byte(text), &plans); err != nil {
			t.Fatal(err)
		}
		return plans[0].Plan.Hit + plans[0].Plan.Read
	}
	return func(statement string) int {
		once(statement) // The first use of a table and its indexes in a session reads their descriptions too.
		return once(statement)
	}
}

// liteMeter counts the steps of SQLite's virtual machine, which database/sql does not
// tell.
func liteMeter(t *testing.T, path string) func(statement string) int {
	t.Helper()
	tls := libc.NewTLS()
	text := func(s string) uintptr {
		p, err := libc.CString(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	out := tls.Alloc(8)
	name := text(path)
	defer libc.Xfree(tls, name)
	if rc := lite.Xsqlite3_open_v2(tls, name, out, lite.SQLITE_OPEN_READWRITE, 0); rc != lite.SQLITE_OK {
		t.Fatalf("sqlite3_open_v2: %d", rc)
	}
	db := libc.AtomicLoadNUintptr(out, 0)
	t.Cleanup(func() {
		lite.Xsqlite3_close_v2(tls, db)
		tls.Free(8)
		tls.Close()
	})
	run := func(statement string) int {
		query := text(statement)
		defer libc.Xfree(tls, query)
		if rc := lite.Xsqlite3_prepare_v2(tls, db, query, -1, out, 0); rc != lite.SQLITE_OK {
			t.Fatalf("%s: %s", libc.GoString(lite.Xsqlite3_errmsg(tls, db)), statement)
		}
		stmt := libc.AtomicLoadNUintptr(out, 0)
		defer lite.Xsqlite3_finalize(tls, stmt)
		rc := lite.Xsqlite3_step(tls, stmt)
		for rc == lite.SQLITE_ROW {
			rc = lite.Xsqlite3_step(tls, stmt)
		}
		if rc != lite.SQLITE_DONE {
			t.Fatalf("%s: %s", libc.GoString(lite.Xsqlite3_errmsg(tls, db)), statement)
		}
		return int(lite.Xsqlite3_stmt_status(tls, stmt, lite.SQLITE_STMTSTATUS_VM_STEP, 0))
	}
	return func(statement string) int {
		run("BEGIN IMMEDIATE")
		defer run("ROLLBACK")
		return run(statement)
	}
}
