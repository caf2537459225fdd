// What agents do with Cardea and with the MCP server of server.mjs: get a token for themselves, get one in a person's
// name, register, refresh. Each step prints a line of JSON.

import { createHash, randomBytes } from 'node:crypto';
import express from 'express';
import { issuer, mcpServer, app as appURL, id, secret } from './settings.mjs';

const say = (step, facts) => console.log(JSON.stringify({ step, ...facts }));

// callTool is how this client speaks to the MCP server with a token.
const callTool = async (path, accessToken) => {
  const response = await fetch(`${mcpServer}${path}`, {
    method: 'POST',
    headers: { 'Authorization': `Bearer ${accessToken}`, 'Content-Type': 'application/json' },
    body: JSON.stringify({})
  });
  return { status: response.status, ...(await response.json()) };
};

// 1. The setup works: a client's own token opens the MCP server.

const testMCPAuth = async () => {
  // This would typically be handled by your MCP client
  const tokenResponse = await fetch(`${issuer}/oauth2/token`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: id('TEST'),
      client_secret: secret('TEST'),
      scope: 'mcp:tools:weather'
    })
  });

  const { access_token } = await tokenResponse.json();

  // Test MCP server with token
  const mcpResponse = await fetch(`${mcpServer}/mcp/tools/weather`, {
    method: 'POST',
    headers: {
      'Authorization': `Bearer ${access_token}`,
      'Content-Type': 'application/json'
    },
    body: JSON.stringify({
      method: 'weather/get_forecast',
      params: { location: 'San Francisco' }
    })
  });

  console.log('MCP Response:', await mcpResponse.json());
  return access_token;
};

const testToken = await testMCPAuth();
say('without a token', await callTool('/mcp/tools/weather', ''));
say('without the scope', await callTool('/mcp/tools/send-email', testToken));

// 2. Machine to machine.

const getMachineToken = async () => {
  const response = await fetch(`${issuer}/oauth2/token`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({
      grant_type: 'client_credentials',
      client_id: id('SERVICE'),
      client_secret: secret('SERVICE'),
      scope: 'mcp:tools:inventory:check mcp:resources:store-data'
    })
  });

  return await response.json();
};

const { access_token: machineToken, ...machine } = await getMachineToken();
say('machine token', machine);

// 3. In a person's name: the authorization code flow with PKCE.

const pending = {}; // the one authorization under way
const generateSecureRandomString = () => (pending.state = randomBytes(32).toString('base64url'));
const generatePKCEChallenge = () => {
  pending.verifier = randomBytes(32).toString('base64url');
  return createHash('sha256').update(pending.verifier).digest('base64url');
};
const isValidState = (state) => state !== undefined && state === pending.state;
const getPKCEVerifier = () => pending.verifier;

// Step 1: Redirect user to authorization server
const authURL = new URL(`${issuer}/oauth2/authorize`);
authURL.searchParams.set('response_type', 'code');
authURL.searchParams.set('client_id', id('APP'));
authURL.searchParams.set('redirect_uri', `${appURL}/callback`);
authURL.searchParams.set('scope', 'mcp:tools:calendar:read mcp:tools:email:send');
authURL.searchParams.set('state', generateSecureRandomString());
authURL.searchParams.set('code_challenge', generatePKCEChallenge());
authURL.searchParams.set('code_challenge_method', 'S256');

const app = express();

// Step 2: Handle callback and exchange code for token
app.get('/callback', async (req, res) => {
  const { code, state } = req.query;

  // Verify state parameter to prevent CSRF
  if (!isValidState(state)) {
    return res.status(400).json({ error: 'Invalid state parameter' });
  }

  const tokenResponse = await fetch(`${issuer}/oauth2/token`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      code,
      client_id: id('APP'),
      redirect_uri: `${appURL}/callback`,
      code_verifier: getPKCEVerifier() // From PKCE challenge generation
    })
  });

  const tokens = await tokenResponse.json();
  // Store tokens securely and proceed with MCP calls
  res.send('You may close this page.');
  pending.resolve(tokens);
});

// The same way back for the client that registers itself below; it has a secret.
app.get('/registered/callback', async (req, res) => {
  if (!isValidState(req.query.state)) {
    return res.status(400).json({ error: 'Invalid state parameter' });
  }
  const tokenResponse = await fetch(`${issuer}/oauth2/token`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/x-www-form-urlencoded',
      'Authorization': `Basic ${btoa(`${registered.client_id}:${registered.client_secret}`)}`
    },
    body: new URLSearchParams({
      grant_type: 'authorization_code',
      code: req.query.code,
      redirect_uri: `${appURL}/registered/callback`,
      code_verifier: getPKCEVerifier()
    })
  });
  res.send('You may close this page.');
  pending.resolve(await tokenResponse.json());
});

const { hostname, port } = new URL(appURL);
const listening = app.listen(port, hostname);

// ask waits until a person has answered at the authorization server.
const ask = (url) => {
  const answer = new Promise((resolve) => (pending.resolve = resolve));
  say('authorize', { url: url.href });
  return answer;
};

const tokens = await ask(authURL);
say('code flow', { scope: tokens.scope, token_type: tokens.token_type, expires_in: tokens.expires_in, error: tokens.error });
say('calendar', await callTool('/mcp/tools/calendar', tokens.access_token));
say('e-mail', await callTool('/mcp/tools/send-email', tokens.access_token));

// 4. Introspection: a revoked token is refused at once where the server asks.

say('strict', await callTool('/strict/tools/calendar', tokens.access_token));
const revoked = await fetch(`${issuer}/oauth2/revoke`, {
  method: 'POST',
  headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
  body: new URLSearchParams({ token: tokens.access_token, client_id: id('APP') })
});
say('revoked', { status: revoked.status });
say('strict after revocation', await callTool('/strict/tools/calendar', tokens.access_token));

// 5. Dynamic client registration.

// MCP clients can auto-register using DCR
const registerClient = async (clientMetadata) => {
  const response = await fetch(`${issuer}/oauth2/register`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({
      client_name: 'AI Sales Assistant',
      client_uri: 'https://sales-ai.company.com',
      redirect_uris: ['https://sales-ai.company.com/oauth/callback'],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      scope: 'mcp:tools:crm:read mcp:tools:email:send',
      token_endpoint_auth_method: 'client_secret_basic',
      ...clientMetadata
    })
  });

  return await response.json();
  // Returns: { client_id, client_secret, client_id_issued_at, ... }
};

const { client_id, client_secret, registration_access_token, ...assistant } = await registerClient();
say('registered', {
  id: client_id !== undefined,
  secret: client_secret !== undefined,
  manages: registration_access_token !== undefined, // as secret as the secret
  ...assistant
});

const registered = await registerClient({ redirect_uris: [`${appURL}/registered/callback`] });
authURL.searchParams.set('client_id', registered.client_id);
authURL.searchParams.set('redirect_uri', `${appURL}/registered/callback`);
authURL.searchParams.set('scope', 'mcp:tools:calendar:read');
authURL.searchParams.set('state', generateSecureRandomString());
authURL.searchParams.set('code_challenge', generatePKCEChallenge());
const registeredTokens = await ask(authURL);
say('code flow of the registered client', { scope: registeredTokens.scope, error: registeredTokens.error });

// 6. Refresh tokens, for agents that run for long.

const TokenManager = {
  async refreshToken(refreshToken) {
    const response = await fetch(`${issuer}/oauth2/token`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token: refreshToken,
        client_id: registered.client_id,
        client_secret: registered.client_secret
      })
    });

    return await response.json();
  },

  async autoRefreshWrapper(tokenStore, makeRequest) {
    try {
      return await makeRequest(tokenStore.accessToken);
    } catch (error) {
      if (error.status === 401) {
        // Token expired, try refresh
        const newTokens = await this.refreshToken(tokenStore.refreshToken);
        tokenStore.accessToken = newTokens.access_token;
        tokenStore.refreshToken = newTokens.refresh_token;

        // Retry original request
        return await makeRequest(tokenStore.accessToken);
      }
      throw error;
    }
  }
};

const tokenStore = { accessToken: 'expired long ago', refreshToken: registeredTokens.refresh_token };
const events = await TokenManager.autoRefreshWrapper(tokenStore, async (accessToken) => {
  const answer = await callTool('/mcp/tools/calendar', accessToken);
  if (answer.status !== 200) throw Object.assign(new Error(answer.error_description), { status: answer.status });
  return answer;
});
say('refreshed', { rotated: tokenStore.refreshToken !== registeredTokens.refresh_token, ...events });

// 7. The MCP server's rate limit: fifty calls in a quarter of an hour for a client without a wider scope.

let calls = 0;
let last;
do {
  last = await callTool('/mcp/tools/weather', machineToken);
  calls++;
} while (last.status === 403 && calls < 200); // this token has not the scope of the weather; the limit counts before
say('rate limit', { calls, ...last });

listening.close();
listening.closeAllConnections();
