package demo

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// openGateway puts the gateway in front of an MCP server without authorization, which gets a listener of its own. It
// writes the configuration into folder at each start, because the ports and the secret differ.
func (d *demo) openGateway(ctx context.Context, settings config.Config, mails http.Handler) error {
	folder := settings.DataDir
	clients := d.at.tools
	bare, origin, err := d.listen(ctx, "127.0.0.1:0", "")
	if err != nil {
		return err
	}
	d.at.tools, d.tools, d.mails = bare, newBareTools(d.Version, mails), origin+"/mail"
	served := oauth.Resource{Scopes: scopes}
	var b strings.Builder
	fmt.Fprintf(&b, `# The gateway of cardea demo. Change a rule while the demo runs: the next call is judged by it.
# The demo writes this file each time it starts.
issuer: %s
public: %s
client: {id: %s, secret_file: gateway-secret}
servers:
  - name: %s
    path: /mcp
    upstream: %s/mcp
    scopes: [%s]
    rules:
`, d.issuer, strings.TrimSuffix(d.mcpServer, "/mcp"), d.introspects.ID, serverName, origin,
		strings.Join(served.DefaultScopes(), ", "))
	for _, tool := range slices.Sorted(maps.Keys(toolScopes)) {
		fmt.Fprintf(&b, "      - {tools: [%s], scopes: [%s]}\n", tool, strings.Join(toolScopes[tool], ", "))
	}
	d.rules = filepath.Join(folder, "cardea-gateway.yaml")
	if err := os.WriteFile(filepath.Join(folder, "gateway-secret"), []byte(d.introspects.Secret), 0o600); err != nil {
		return fmt.Errorf("demo: the gateway's secret: %w", err)
	}
	if err := os.WriteFile(d.rules, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("demo: the gateway's configuration: %w", err)
	}
	if d.Script {
		settings.Log.Level = max(settings.Log.Level, slog.LevelError) // it warns of each call that it refuses
	}
	d.front, err = d.Gateway(d.rules, clients, d.Logger(settings.Log))
	return err
}

// behind returns what to say of the MCP server if the gateway protects it.
func (d *demo) behind() string {
	if d.front == nil {
		return ""
	}
	return "\n  Gateway               in front of it, because it knows nothing of authorization\n" +
		"  Rules                 " + d.rules
}
