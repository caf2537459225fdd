// An agent with oauth4webapi, which checks every response strictly by the RFCs: discovery from the MCP server,
// registration, code flow with PKCE, calls, refresh, introspection, revocation, and a machine's own token.

import * as oauth from 'oauth4webapi';
import { refused, tell, visit } from './steps.mjs';

const { ISSUER, RESOURCE, REDIRECT, BOT_ID, BOT_SECRET, RS_ID, RS_SECRET } = process.env;
const insecure = { [oauth.allowInsecureRequests]: true }; // http, on loopback
const said = (error) => ({ status: error.status ?? error.response?.status, error: error.error ?? error.code ?? error.message });
const challenged = (error) => {
  const [{ scheme, parameters }] = error.cause;
  return { status: error.status, scheme, error: parameters.error, scope: parameters.scope, metadata: parameters.resource_metadata !== undefined };
};

// From the MCP server to its authorization server (RFC 9728, RFC 8414).
const protects = await oauth.processResourceDiscoveryResponse(new URL(RESOURCE), await oauth.resourceDiscoveryRequest(new URL(RESOURCE), insecure));
const issuer = new URL(protects.authorization_servers[0]);
const discover = async (algorithm) => oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }));
const [server, openid] = [await discover('oauth2'), await discover('oidc')];
tell('discovered', { issuer: server.issuer === ISSUER, same: JSON.stringify(server) === JSON.stringify(openid) });

const metadata = { client_name: 'Agent', redirect_uris: [REDIRECT], token_endpoint_auth_method: 'none', grant_types: ['authorization_code', 'refresh_token'] };
const client = await oauth.processDynamicClientRegistrationResponse(await oauth.dynamicClientRegistrationRequest(server, metadata, insecure));
tell('registered', { secret: client.client_secret !== undefined, method: client.token_endpoint_auth_method });

// authorize lets the person allow scope, and returns the values that are needed to redeem the code.
async function authorize(scope) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const url = new URL(server.authorization_endpoint);
  url.search = new URLSearchParams({
    response_type: 'code',
    client_id: client.client_id,
    redirect_uri: REDIRECT,
    scope,
    state,
    resource: RESOURCE,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  });
  return { back: await visit(url), state, verifier };
}
const redeem = async (params, verifier) => {
  const extra = { additionalParameters: { resource: RESOURCE }, ...insecure };
  const response = await oauth.authorizationCodeGrantRequest(server, client, oauth.None(), params, REDIRECT, verifier, extra);
  return oauth.processAuthorizationCodeResponse(server, client, response);
};

const { back, state, verifier } = await authorize('mcp:tools:weather');
const forged = new URL(back);
forged.searchParams.set('iss', 'https://attacker.example');
tell('an answer of another issuer', await refused(() => oauth.validateAuthResponse(server, client, forged, state), said));
const params = oauth.validateAuthResponse(server, client, back, state);
const granted = await redeem(params, verifier);
tell('code', { type: granted.token_type, scope: granted.scope });

const call = (token, name, args) => oauth.protectedResourceRequest(token, 'POST', new URL(RESOURCE),
  new Headers({ 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' }),
  JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args } }), insecure);
const event = { title: 'Tea', start: '2031-05-04T15:00' };
tell('called', { status: (await call(granted.access_token, 'get_forecast', { city: 'Lisbon' })).status });
tell('a tool of another scope', await refused(() => call(granted.access_token, 'create_event', event), challenged));
tell('a token of nobody', await refused(() => call('no.longer.good', 'get_forecast', { city: 'Lisbon' }), challenged));

const refresh = async (token) => oauth.processRefreshTokenResponse(server, client, await oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, insecure));
const refreshed = await refresh(granted.refresh_token);
tell('refreshed', { scope: refreshed.scope, rotated: refreshed.refresh_token !== granted.refresh_token });

// The MCP server introspects a token (RFC 7662), before and after the client revokes it (RFC 7009).
const rs = { client_id: RS_ID };
const introspect = async (token) => {
  const { active, aud, client_id, scope } = await oauth.processIntrospectionResponse(server, rs,
    await oauth.introspectionRequest(server, rs, oauth.ClientSecretBasic(RS_SECRET), token, insecure));
  return { active, scope, ours: active && aud === RESOURCE && client_id === client.client_id };
};
tell('introspected', await introspect(refreshed.access_token));
await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, oauth.None(), refreshed.refresh_token, insecure));
tell('introspected after revocation', await introspect(refreshed.access_token));
tell('refreshed after revocation', await refused(() => refresh(refreshed.refresh_token), said));

const again = await authorize('mcp:tools:weather');
const answer = oauth.validateAuthResponse(server, client, again.back, again.state);
tell('a wrong verifier', await refused(() => redeem(answer, oauth.generateRandomCodeVerifier()), said));

const bot = { client_id: BOT_ID };
const machine = async (method, ask) => oauth.processClientCredentialsResponse(server, bot,
  await oauth.clientCredentialsGrantRequest(server, bot, method, new URLSearchParams(ask), insecure));
for (const [by, method] of Object.entries({ header: oauth.ClientSecretBasic(BOT_SECRET), body: oauth.ClientSecretPost(BOT_SECRET) })) {
  tell('machine', { by, scope: (await machine(method, { resource: RESOURCE })).scope });
}
tell('a wrong secret', await refused(() => machine(oauth.ClientSecretBasic('wrong'), {}), (error) => (error.name === 'WWWAuthenticateChallengeError' ? { status: error.status, scheme: error.cause[0].scheme } : said(error))));
tell('a scope that nobody knows', await refused(() => machine(oauth.ClientSecretBasic(BOT_SECRET), { scope: 'nonsense' }), said));
process.exit(0);
