// node typescript-older.mjs VERSION MCP_URL: a session with an older release of the TypeScript SDK v1, with the alias
// mcp-sdk-VERSION of package.json. It does not support step-up: a call without the needed scope fails.

import { Agent, event } from './session.mjs';
import { refused, tell } from './steps.mjs';

const [version, url] = process.argv.slice(2);
const sdk = (module) => import(`mcp-sdk-${version}/client/${module}.js`);
const { Client } = await sdk('index');
const { UnauthorizedError } = await sdk('auth');
const { StreamableHTTPClientTransport: Transport } = await sdk('streamableHttp').catch(() => ({}));
const { SSEClientTransport } = await sdk('sse');

const agent = new Agent();
const open = () => new (Transport ?? SSEClientTransport)(new URL(url), { authProvider: agent });
const transport = open();
await refused(() => new Client({ name: 'cardea-test', version: '1.0.0' }).connect(transport), (error) => {
  if (!(error instanceof UnauthorizedError)) throw error;
});
const asked = agent.asked.searchParams;
tell('asked', { resource: asked.has('resource'), scope: asked.get('scope'), state: asked.has('state') });
const params = await agent.person();
await transport.finishAuth(params.get('code'));
const client = new Client({ name: 'cardea-test', version: '1.0.0' });
await client.connect(open());

const call = async (name, args) => {
  const result = await client.callTool({ name, arguments: args });
  tell('called', { tool: name, failed: result.isError === true });
};
await call('get_forecast', { city: 'Lisbon' });
tell('refused', await refused(() => call('create_event', event), ({ message }) => ({ told: message.includes('insufficient_scope') })));
agent.held = { ...agent.held, access_token: 'no.longer.good' };
await call('get_forecast', { city: 'Lisbon' });
process.exit(0);
