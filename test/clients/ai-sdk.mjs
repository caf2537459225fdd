// node ai-sdk.mjs MCP_URL: a session with the MCP client of the AI SDK, which binds its client and tokens to the
// authorization server, requests only the scopes of the challenge, and does not support step-up.

import { auth, createMCPClient, UnauthorizedError } from '@ai-sdk/mcp';
import { Agent, event } from './session.mjs';
import { refused, tell } from './steps.mjs';

const [url] = process.argv.slice(2);
const agent = new Agent();
agent.saveState = (state) => (agent.sent = state);
agent.storedState = () => agent.sent;
agent.saveAuthorizationServerInformation = (server) => (agent.server = server);
agent.authorizationServerInformation = () => agent.server;
agent.isClientInformationDynamicallyRegistered = () => true;
const connect = () => createMCPClient({ transport: { type: 'http', url, authProvider: agent } });

await refused(connect, (error) => {
  if (!(error instanceof UnauthorizedError)) throw error;
});
const asked = agent.asked.searchParams;
tell('asked', { resource: asked.get('resource') === url, scope: asked.get('scope'), state: asked.has('state') });
const params = await agent.person();
const answer = { serverUrl: url, authorizationCode: params.get('code'), callbackState: params.get('state') };
tell('another issuer', await refused(() => auth(agent, { ...answer, callbackIssuer: 'https://attacker.example' }),
  ({ message }) => ({ told: message.includes('does not match expected issuer') })));
await auth(agent, { ...answer, callbackIssuer: params.get('iss') });

const client = await connect();
const tools = await client.tools();
const call = async (name, args) => {
  const result = await tools[name].execute(args, { toolCallId: name, messages: [] });
  tell('called', { tool: name, failed: result.isError === true });
};
await call('get_forecast', { city: 'Lisbon' });
tell('refused', await refused(() => call('create_event', event), ({ message }) => ({ told: message.includes('insufficient_scope') })));
agent.held = { ...agent.held, access_token: 'no.longer.good' };
await call('get_forecast', { city: 'Lisbon' });
await client.close();
process.exit(0);
