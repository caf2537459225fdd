// One agent's session with an official SDK. It prints a line of JSON for each step. For an authorization, it prints
// {"step":"authorize","url":…} and reads a line with the URL to which the person's browser was redirected.
//
//   MCP_URL                     the whole session
//   MCP_URL --document URL      the whole session of a client whose metadata document is at URL
//   MCP_URL --keep FILE         only signs in, and keeps the client and its tokens in FILE
//   MCP_URL --share FILE        one of several processes that begin with what FILE holds; each waits for a line on
//                               standard input before it sends a refresh, so that all can send theirs at once
//   MCP_URL --share FILE --die  the same, and the process is killed when the answer comes, before the SDK sees it

import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { answers, tell, visit } from './steps.mjs';

const redirectUrl = 'http://127.0.0.1:43117/callback'; // nobody listens there: the answer comes by standard input
export const event = { title: 'Tea', start: '2031-05-04T15:00' };

function refreshes(init) {
  return init?.method === 'POST' && new URLSearchParams(init.body).get('grant_type') === 'refresh_token';
}

// Agent is the part that an application must provide for the SDKs: storage, and access to the person's browser.
export class Agent {
  redirectUrl = redirectUrl;
  clientMetadata = {
    client_name: 'Cardea test agent',
    redirect_uris: [redirectUrl],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  };
  saved = 0;
  stepUp = false;

  state() {
    return (this.sent = crypto.randomUUID());
  }
  clientInformation() {
    return this.client;
  }
  saveClientInformation(client) {
    this.client = client;
    tell('registered', { client_id: client.client_id, secret: client.client_secret !== undefined });
  }
  tokens() {
    // An SDK that refreshes before it asks the person never gets more scopes, because a refresh cannot widen a grant
    // (RFC 6749 §6). Its application steps up by hiding the refresh token.
    return this.refreshesFirst && this.stepUp && this.held ? { ...this.held, refresh_token: undefined } : this.held;
  }
  saveTokens(tokens) {
    this.held = tokens;
    this.saved++;
    this.stepUp = false;
    tell('tokens', { scope: tokens.scope, refresh: tokens.refresh_token !== undefined, type: tokens.token_type });
  }
  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }
  codeVerifier() {
    return this.verifier;
  }
  saveDiscoveryState(state) {
    this.discovered = state;
  }
  discoveryState() {
    return this.discovered;
  }
  redirectToAuthorization(url) {
    this.asked = url;
  }

  // fetch passes everything on unchanged and observes it; a refresh of several processes waits for the others.
  fetch = async (input, init) => {
    if (this.shares && refreshes(init)) {
      tell('refreshing');
      await answers.next();
    }
    const response = await fetch(input, init);
    if (this.dies && refreshes(init)) process.kill(process.pid, 'SIGKILL');
    if (response.status === 403) {
      const challenge = response.headers.get('www-authenticate');
      this.stepUp = /error="insufficient_scope"/.test(challenge ?? '');
      tell('refused', { status: 403, challenge });
    }
    return response;
  };

  // person sends the person to the URL of the SDK, and returns the parameters of the redirect back.
  async person() {
    const params = (await visit(this.asked)).searchParams;
    if ((params.get('state') ?? undefined) !== this.sent) throw new Error(`state ${params.get('state')} came back, ${this.sent} was sent`);
    if (params.has('error')) throw new Error(`${params.get('error')}: ${params.get('error_description')}`);
    return params;
  }
}

// run plays the session of the command line. finish passes the callback's parameters to the SDK; refreshesFirst says
// that the SDK refreshes after insufficient_scope.
export async function run({ Client, StreamableHTTPClientTransport, UnauthorizedError, finish, refreshesFirst = false }) {
  const { values: options, positionals: [url] } = parseArgs({
    allowPositionals: true,
    options: { document: { type: 'string' }, keep: { type: 'string' }, share: { type: 'string' }, die: { type: 'boolean' } },
  });
  const agent = new Agent();
  agent.clientMetadataUrl = options.document;
  agent.refreshesFirst = refreshesFirst;
  const open = () => new StreamableHTTPClientTransport(new URL(url), { authProvider: agent, fetch: agent.fetch });
  const client = new Client({ name: 'cardea-test', version: '1.0.0' });
  const call = async (name, args) => {
    const result = await client.callTool({ name, arguments: args });
    tell('called', { tool: name, failed: result.isError === true, text: result.content?.[0]?.text });
  };
  const spoil = () => {
    agent.held = { ...agent.held, access_token: 'no.longer.good' };
  };

  if (options.share) {
    Object.assign(agent, JSON.parse(readFileSync(options.share, 'utf8')), { shares: true, dies: options.die });
    spoil();
    await client.connect(open());
    await call('get_forecast', { city: 'Lisbon' });
    spoil();
    await call('get_forecast', { city: 'Lisbon' }); // the refresh token that came is good too
    process.exit(0);
  }

  let transport = open();
  try {
    await client.connect(transport);
    throw new Error('the MCP server let a stranger in');
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  await finish(transport, await agent.person());
  transport = open();
  await client.connect(transport);
  tell('connected', { tools: (await client.listTools()).tools.map((tool) => tool.name) });
  if (options.keep) {
    writeFileSync(options.keep, JSON.stringify({ client: agent.client, held: agent.held }));
    process.exit(0);
  }
  await call('get_forecast', { city: 'Lisbon' });

  try {
    await call('create_event', event);
    throw new Error('create_event was allowed without its scope');
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  await finish(transport, await agent.person());
  await call('create_event', event);
  await call('get_forecast', { city: 'Lisbon' }); // what was allowed before still is

  const before = agent.saved;
  spoil();
  await call('create_event', event);
  tell('refreshed', { times: agent.saved - before });

  await client.close();
  process.exit(0);
}
