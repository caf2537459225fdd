package main

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// elsewhere are the programs in commands of the documentation that TestGuides does not run, each with the reason. The
// commands around them are run, and those of cardea inside a container are run here.
var elsewhere = map[string]string{
	"docker":      "it needs a daemon; TestCompose runs the program with what Dockerfile and Compose file set",
	"kubectl":     "it needs a cluster",
	"helm":        "it needs a cluster; test/run lints and renders the chart, and TestChartVariables reads it",
	"sudo":        "it changes the machine, so that the command is run without it",
	"dpkg":        "it changes the machine; TestDebianPackage installs the package into a root of its own",
	"editor":      "it waits for a person",
	"systemctl":   "it needs systemd as the first process; TestDebianPackage checks the unit",
	"systemd-run": "it needs systemd as the first process, so that its command is run without it",
	"claude":      "it is not free to install; test/clients runs clients of the same SDK",
	"code":        "it needs a desktop; test/clients runs clients of the same SDK",
	"gemini":      "it wants an account; test/clients runs clients of the same SDK",
	"codex":       "it is 400 MB; make nightly runs it",
	"npx":         "it installs from the internet; test/clients runs the Inspector and mcpc from the lock file",
	"node":        "the programs are those of the page, which test/clients runs",
	"go":          "it would compile; examples/migrate has the test of its program",
	"make":        "it takes minutes; CI runs it",
}

// A guide says how the commands of a page are run. The zero guide runs them, in their order and in one shell, for an
// installation that has the person ada@example.com and the MCP server https://mcp.example.com/mcp.
type guide struct {
	empty    bool                  // the installation has nothing
	serves   bool                  // a server runs
	mails    bool                  // $MAIL is the URL of a mail server
	postgres bool                  // $POSTGRES and $RESTORED name empty databases
	seed     func(*store.Tx) error // stores something before; nil: nothing
	// first are commands that do what the page takes for granted. The page's YAML with servers is in
	// cardea-gateway.yaml.
	first string
	// replace has pairs: a text of the commands, and what stands in its place, such as a value that a reader fills in.
	replace []string
}

var guides = map[string]guide{
	"performance.md":                 {},
	"guides/administer-by-agent.md":  {},
	"guides/bring-your-own-login.md": {},
	"guides/people.md":               {},
	"guides/protect-your-server.md":  {empty: true},
	"guides/python.md":               {empty: true},
	"guides/second-factor.md":        {empty: true, seed: passkeys},
	"guides/upgrade.md":              {},
	"guides/admin-api.md": {empty: true, serves: true, replace: []string{
		"--expires-in 90d -o json", "--expires-in 90d -o json >ops.json\n" +
			"ID=$(jq -r .client_id ops.json) SECRET=$(jq -r .client_secret ops.json)",
		"curl -X PATCH", "made=$(cardea resource list -o json | jq -r '.[] | select(.name == \"Weather\") | .id')\n" +
			"etag=$(command curl -sS -D - -o answer -H \"Authorization: Bearer $TOKEN\" " +
			"$CARDEA_ISSUER/admin/api/v1/resources/$made | tr -d '\\r' | sed -n 's/^[Ee][Tt]ag: //p')\ncurl -X PATCH",
		`'If-Match: "9bWdLrGWkG9CUVzv"'`, `"If-Match: $etag"`,
		"res_…", "$made",
		"jq -n --rawfile", "cardea export | sed '/^groups:/d' >cardea-objects.yaml\njq -n --rawfile",
	}},
	"guides/audit.md": {
		// The events are sealed when the server has ended.
		first: "export CARDEA_AUDIT_CHECKPOINT_FILE=$PWD/cardea.checkpoint\nserve\nstop",
		replace: []string{
			"cardea.audit/…", "$(cardea audit verify -o json | jq -r .key)",
			"evt_…", "$(cardea audit list -o json | jq -r '.[0].id')",
		}},
	"guides/backup.md": {serves: true, postgres: true, replace: []string{
		"cardea restore --end", "stop\nmkdir old\nmv $CARDEA_DATA_DIR/cardea.db* old\ncardea restore --end",
		"pg_dump --format", "export CARDEA_DATABASE=$POSTGRES CARDEA_MASTER_KEY=$(openssl rand -base64 32)\n" +
			"cardea group create staff\npg_dump --format",
		"# into an empty database", "CARDEA_DATABASE=$RESTORED #",
	}},
	"guides/connect-your-client.md": {serves: true,
		first: "cardea --data-dir demo-data resource create --identifier http://localhost:8081/mcp " +
			"--scope mcp:tools:weather --scope mcp:tools:calendar:read --scope mcp:tools:email:send",
		replace: []string{
			"curl -i http://localhost:8081/mcp", "command curl -sSi -H 'Content-Type: application/json' " +
				"-d {} $CARDEA_ISSUER/admin/mcp | grep -i ^www-authenticate",
		}},
	"guides/declarative.md": {serves: true, replace: []string{
		"rotate-secret mcp_nightly", "rotate-secret $(machine)",
		"CARDEA_CLIENT_ID=… CARDEA_CLIENT_SECRET=…", "$(credentials)",
	}},
	"guides/doctor.md": {serves: true, replace: []string{
		"https://mcp.example.com/mcp", "$CARDEA_ISSUER/admin/mcp",
		"URL", "$CARDEA_ISSUER/admin/mcp",
		"--client-id ID", "--client-id $(app)",
	}},
	"guides/gateway.md": {
		first: "cardea resource create --identifier https://gw.example.com/mail --scope mail\n" +
			`rm cardea-gateway.yaml; echo '[{"name":"read_file","inputSchema":{"type":"object"}}]' >tools.json`,
		replace: []string{
			"--upstream http://127.0.0.1:9000/mcp", "-- mcp-stdio tools.json",
			"-- npx -y server-filesystem /data", "-- mcp-stdio tools.json",
			"read_file=8d5c…", "read_file=$(cardea resource tools https://gw.example.com/files -o json | " +
				"jq -r '.tools[0].hash' | cut -c 8-11)",
		}},
	"guides/install.md": {empty: true,
		first:   "mkdir -p $WORK/etc/cardea\ncp deploy/packages/cardea.yaml $WORK/etc/cardea",
		replace: []string{"cardea:…@", "cardea:secret@", "issuer: https://…", ""}},
	"guides/machine-clients.md": {
		first: "echo '" + `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",` +
			`"kid":"key-1"}]}` + "' >keys.json",
		replace: []string{"mcp_…", "$(machine)"}},
	"guides/mail.md": {mails: true,
		first: "printf %s $MAIL >mail.txt\n" +
			"printf 'mail: {smtp_file: %s, from: auth@example.com}\\n' $PWD/mail.txt >cardea.yaml",
		replace: []string{
			"cardea serve --config cardea.yaml", "serve --config cardea.yaml",
		}},
	"guides/metadata-documents.md": {seed: documentedAgent, first: "touch client.json", replace: []string{
		"agent.json https://agent.example.com/oauth/client.json", "agent.json file://$PWD/client.json",
	}},
	"guides/migrate.md": {first: "TOKEN=token", serves: true, replace: []string{
		"api=https://your-org.scalekit.com/api/v1", "touch answer\napi=file://$PWD/answer#",
		"https://mcp.example.com/mcp --login", "$CARDEA_ISSUER/admin/mcp --login",
	}},
	"guides/operate.md": {empty: true, serves: true,
		first: "cardea resource create --identifier https://mcp.example.com/mcp --scope mcp:tools:email:send",
		replace: []string{
			"CARDEA_CLIENT_ID=… CARDEA_CLIENT_SECRET=…", "$(credentials)",
			"cardea audit tail  ", "mkfifo tail\ncardea audit tail >tail & tail=$!\nread -r line <tail\nkill $tail  ",
			"evt_…", "$(cardea audit list -o json | jq -r '.[0].id')",
		}},
	"guides/passkeys.md": {empty: true, seed: passkeys, replace: []string{"psk_…", "psk_1"}},
	"guides/registration.md": {serves: true, first: "cardea group create staff", replace: []string{
		"revoke iat_…", "revoke $(cardea initial-access-token list -o json | jq -r '.[0].id')",
		"approve mcp_…", "approve $(agent)",
		"cardea client dismiss mcp_…", "refused cardea client dismiss $(agent)",
		"block mcp_…", "block $(agent)",
		"cardea_iat_…", "none",
		"curl https://auth.example.com/oauth2/register \\", "curl -o made.json https://auth.example.com/oauth2/register \\",
		`"client_id": "mcp_…"`, `"client_id": "'$(jq -r .client_id made.json)'"`,
		"mcp_…", "$(jq -r .client_id made.json)",
		"cardea_rat_…", "$(jq -r .registration_access_token made.json)",
	}},
	"guides/stdio.md": {empty: true,
		first: "mv cardea-gateway.yaml by-hand.yaml\n" +
			`echo '[{"name":"read_file","inputSchema":{"type":"object"}}]' >tools.json`,
		replace: []string{
			"-- npx -y @modelcontextprotocol/server-filesystem /srv/files", "-- mcp-stdio tools.json",
			"cardea serve &", "mv by-hand.yaml cardea-gateway.yaml\ncardea resource delete http://localhost:8090/files\nserve",
			"cardea gateway --config cardea-gateway.yaml", "cardea gateway --config cardea-gateway.yaml --check",
		}}}

// everywhere is what stands in the place of addresses and folders of the documentation.
var everywhere = []string{
	"https://auth.example.com", "$CARDEA_ISSUER",
	" /backup/", " $WORK/backup/",
	"/etc/cardea", "$WORK/etc/cardea",
}

// inShell are the functions of the shell that runs the commands of a page.
const inShell = `set -eu
told() { echo "$1" >>"$WORK/called"; }
for name in dpkg editor systemctl claude code gemini codex npx node make; do
	eval "$name() { told $name; }"
done
go() { told go; cardea export; }
sudo() {
	told sudo
	case $1 in
	-u) shift 2 ;;
	systemd-run) # runs its command without it
		told systemd-run
		while [ "$1" != cardea ]; do shift; done
		;;
	esac
	case $1 in *=*) env "$@" ;; *) "$@" ;; esac
}
contained() { # runs the command of cardea inside a container
	while [ "$1" != /cardea ]; do shift; done
	shift
	cardea "$@"
}
docker() {
	told docker
	case " $* " in
	*" exec "*) contained "$@" ;;
	*" build "*) test -e deploy/Dockerfile ;;
	*" up "*) test -e compose.yaml && test $(wc -l <.env) = 3 ;;
	esac
}
kubectl() {
	told kubectl
	if [ "$1" = exec ]; then contained "$@"; fi
}
helm() {
	told helm
	test -e "../../$3/Chart.yaml"
}
curl() { command curl --silent --show-error --fail-with-body "$@"; }
refused() {
	if "$@"; then exit 1; fi
}
server=
serve() {
	mkfifo log
	cardea serve "$@" 2>log &
	server=$!
	exec 3<log
	while read -r line <&3; do
		case $line in *'"msg":"serving"'*) break ;; esac
		echo "$line"
	done
	cat <&3 >&2 &
}
stop() {
	if [ -n "$server" ]; then
		kill $server
		wait $server || true
	fi
	server=
}
trap stop EXIT
made() { cardea client create --name Made -o json "$@"; }
app() {
	made --public --grant authorization_code --grant refresh_token --redirect-uri http://127.0.0.1/callback |
		jq -r .client_id
}
machine() {
	made --grant client_credentials --scope mcp:tools:weather --resource https://mcp.example.com/mcp |
		jq -r .client_id
}
credentials() {
	made --grant client_credentials --scope 'cardea:*' --resource $CARDEA_ISSUER/admin/api |
		jq -r '"CARDEA_CLIENT_ID=\(.client_id) CARDEA_CLIENT_SECRET=\(.client_secret)"'
}
agent() { # a client that registers itself, a different one each time
	echo >>agents
	curl -H 'Content-Type: application/json' $CARDEA_ISSUER/oauth2/register -d '{"client_name": "Agent '$(wc -l <agents)'",
		"redirect_uris": ["https://agent'$(wc -l <agents)'.example/callback"], "token_endpoint_auth_method": "none"}' |
		jq -r .client_id
}
`

const furnished = `
echo correct-horse-battery | cardea user create --email ada@example.com --role owner --password-stdin
cardea resource create --identifier https://mcp.example.com/mcp --name Weather --scope mcp:tools:weather=Forecasts \
	--scope mcp:tools:email:send --default-scope mcp:tools:weather
`

// The commands of each page of docs are run, in their order. Those of the README are run by TestREADME.
func TestGuides(t *testing.T) {
	pages := map[string]string{}
	err := filepath.WalkDir("../../docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) != ".md" || err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel("../../docs", path)
		pages[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	calls, ran := make([]string, 0, len(elsewhere)), 0
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, block := range blocksOf(pages[name], "") {
			if m := typed.FindString(block); m != "" {
				t.Errorf("%s: a block with the command %q is not marked as sh", name, m)
			}
		}
		blocks := blocksOf(pages[name], "sh")
		g, known := guides[name]
		if known != (len(blocks) > 0) {
			t.Errorf("%s has %d blocks of commands; is it in the table? %t", name, len(blocks), known)
		}
		if known && len(blocks) > 0 {
			t.Run(name, func(t *testing.T) {
				calls = append(calls, g.run(t, pages[name], blocks)...)
				ran++
			})
		}
	}
	for name := range elsewhere {
		if ran == len(guides) && !slices.Contains(calls, name) {
			t.Errorf("no page has %s any more", name)
		}
	}
}

// typed is how a line begins that is a command and not what a program prints.
var typed = regexp.MustCompile(`(?m)^ {0,6}(?:cardea|curl|docker|helm|kubectl|npx|node|sudo|go) .*$`)

// blocksOf returns the code blocks of a language, also of those in lists.
func blocksOf(markdown, language string) (blocks []string) {
	text := regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```$").FindAllStringSubmatch(markdown, -1)
	for _, m := range text {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// run runs the commands of a page and returns the programs that were not run.
func (g guide) run(t *testing.T, page string, blocks []string) []string {
	t.Helper()
	work := t.TempDir()
	for _, folder := range []string{"deploy", "examples/objects"} {
		if err := os.CopyFS(filepath.Join(work, folder), os.DirFS("../../"+folder)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(work, "backup"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, block := range blocksOf(page, "yaml") {
		if strings.Contains(block, "servers:\n") && strings.Contains(block, "issuer:") {
			if err := os.WriteFile(filepath.Join(work, "cardea-gateway.yaml"), []byte(block), 0o600); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	listen := porttest.Address(t)
	issuer := "http://" + listen
	data := filepath.Join(work, "data")
	clean := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "CARDEA_") })
	env := append(clean, "WORK="+work, "CARDEA_ISSUER="+issuer, "CARDEA_LISTEN="+listen,
		"CARDEA_DATA_DIR="+data, "BROWSER=browser", "TEST_PERSON="+issuer+" ada@example.com correct-horse-battery",
		"PATH="+os.Getenv("PATH")+":"+os.Getenv("CARDEA_POSTGRES_BIN"))
	if g.mails {
		env = append(env, "MAIL="+mailtest.New(t).URL)
	}
	if g.postgres {
		env = append(env, "POSTGRES="+storetest.Bare(t, storetest.Postgres),
			"RESTORED="+storetest.Bare(t, storetest.Postgres))
	}
	if g.seed != nil {
		seed(t, data, g.seed)
	}

	commands := strings.Join(blocks, "\n")
	for i := 0; i+1 < len(g.replace); i += 2 {
		if !strings.Contains(commands, g.replace[i]) {
			t.Errorf("the page does not have %q", g.replace[i])
		}
		commands = strings.ReplaceAll(commands, g.replace[i], g.replace[i+1])
	}
	commands = strings.NewReplacer(everywhere...).Replace(commands)
	if strings.Contains(commands, "…") {
		t.Errorf("a value is left to the reader, so the table must have it:\n%s", commands)
	}
	script := inShell
	if !g.empty {
		script += furnished
	}
	if g.serves {
		script += "serve\n"
	}
	script += g.first + "\nset -x\n" + commands
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir, cmd.Env = work, env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	called, err := os.ReadFile(filepath.Join(work, "called"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(called))
}

// seed stores something in a new installation.
func seed(t *testing.T, data string, what func(*store.Tx) error) {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(data, "cardea.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = db.Migrate(t.Context()); err == nil {
		err = db.Update(t.Context(), what)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// documentedAgent stores a client with a metadata document, as if somebody had allowed it something.
func documentedAgent(tx *store.Tx) error {
	return tx.CreateClient(&oauth.Client{ID: "https://agent.example.com/oauth/client.json", CreatedAt: tx.Now(),
		Origin: oauth.ByDocument, FetchedAt: tx.Now(), Metadata: oauth.Metadata{Name: "Agent", Method: oauth.MethodNone,
			GrantTypes: []oauth.GrantType{oauth.AuthorizationCode}, ResponseTypes: []string{"code"},
			RedirectURIs: []string{"https://agent.example.com/callback"}}}, "")
}

// passkeys stores a person with two of them.
func passkeys(tx *store.Tx) error {
	ada := &identity.User{ID: "usr_1", Email: "ada@example.com", CreatedAt: tx.Now()}
	if err := tx.CreateUser(ada); err != nil {
		return err
	}
	for _, id := range []string{"psk_1", "psk_2"} {
		p := &identity.Passkey{ID: id, UserID: ada.ID, CredentialID: []byte(id), CreatedAt: tx.Now()}
		if err := tx.CreatePasskey(p); err != nil {
			return err
		}
	}
	return nil
}
