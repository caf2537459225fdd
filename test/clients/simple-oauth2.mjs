// A web application with simple-oauth2: sign in, refresh, log out with revokeAll; and a machine's own token.

import { createHash, randomBytes } from 'node:crypto';
import { AuthorizationCode, ClientCredentials } from 'simple-oauth2';
import { refused, tell, visit } from './steps.mjs';

const { ISSUER, RESOURCE, REDIRECT, APP_ID, APP_SECRET, BOT_ID, BOT_SECRET } = process.env;
const auth = { tokenHost: ISSUER, tokenPath: '/oauth2/token', revokePath: '/oauth2/revoke' };
const said = (error) => ({ status: error.output?.statusCode, error: error.data?.payload?.error ?? error.message });

const app = new AuthorizationCode({ client: { id: APP_ID, secret: APP_SECRET }, auth: { ...auth, authorizePath: '/oauth2/authorize' } });
const verifier = randomBytes(32).toString('base64url');
const state = randomBytes(16).toString('hex');
const back = await visit(app.authorizeURL({
  redirect_uri: REDIRECT,
  scope: ['mcp:tools:weather', 'mcp:tools:calendar:read'],
  state,
  resource: RESOURCE,
  code_challenge: createHash('sha256').update(verifier).digest('base64url'),
  code_challenge_method: 'S256',
}));
if (back.searchParams.get('state') !== state) throw new Error(`state came back as ${back.searchParams.get('state')}`);
const code = back.searchParams.get('code');
const granted = await app.getToken({ code, redirect_uri: REDIRECT, code_verifier: verifier, resource: RESOURCE });
tell('code', { type: granted.token.token_type, scope: granted.token.scope, expired: granted.expired() });

const refreshed = await granted.refresh();
const fewer = await refreshed.refresh({ scope: 'mcp:tools:weather' });
tell('refreshed', {
  rotated: refreshed.token.refresh_token !== granted.token.refresh_token,
  scope: refreshed.token.scope,
  fewer: fewer.token.scope,
});

await fewer.revokeAll();
tell('logged out', await refused(() => fewer.refresh(), said));

for (const authorizationMethod of ['header', 'body']) {
  const bot = new ClientCredentials({ client: { id: BOT_ID, secret: BOT_SECRET }, auth, options: { authorizationMethod } });
  const { token } = await bot.getToken({ scope: 'mcp:tools:weather', resource: RESOURCE });
  tell('machine', { by: authorizationMethod, scope: token.scope, refresh: token.refresh_token !== undefined });
}
const stranger = new ClientCredentials({ client: { id: BOT_ID, secret: 'wrong' }, auth });
tell('a wrong secret', await refused(() => stranger.getToken({}), said));
process.exit(0);
