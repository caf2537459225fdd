// An application with openid-client: discovery with both documents, registration, code flow with PKCE, refresh,
// introspection, revocation, and machines that authenticate with a secret and with a key.

import * as client from 'openid-client';
import { refused, tell, visit } from './steps.mjs';

const { ISSUER, RESOURCE, REDIRECT, APP_ID, APP_SECRET, SIGNED_ID, SIGNED_KEY, RS_ID, RS_SECRET } = process.env;
const execute = [client.allowInsecureRequests]; // http, on loopback
const said = (error) => ({ status: error.status, error: error.error ?? error.code ?? error.message });

for (const algorithm of ['oidc', 'oauth2']) {
  const app = await client.discovery(new URL(ISSUER), APP_ID, APP_SECRET, undefined, { algorithm, execute });
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const back = await visit(client.buildAuthorizationUrl(app, {
    redirect_uri: REDIRECT,
    scope: 'openid mcp:tools:weather',
    state,
    resource: RESOURCE,
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  }));
  const checks = { pkceCodeVerifier: verifier, expectedState: state };
  const forged = new URL(back);
  forged.searchParams.set('iss', 'https://attacker.example');
  const nameless = new URL(back);
  nameless.searchParams.delete('iss');
  tell('an answer of another issuer', await refused(() => client.authorizationCodeGrant(app, forged, checks), said));
  tell('an answer without issuer', await refused(() => client.authorizationCodeGrant(app, nameless, checks), said));
  const granted = await client.authorizationCodeGrant(app, back, checks, { resource: RESOURCE });
  tell('code', { by: algorithm, type: granted.token_type, scope: granted.scope });

  const refreshed = await client.refreshTokenGrant(app, granted.refresh_token, { resource: RESOURCE });
  tell('refreshed', { scope: refreshed.scope, rotated: refreshed.refresh_token !== granted.refresh_token });

  const server = await client.discovery(new URL(ISSUER), RS_ID, RS_SECRET, client.ClientSecretBasic(), { algorithm, execute });
  const introspect = async () => {
    const { active, scope } = await client.tokenIntrospection(server, refreshed.access_token);
    return { active, scope };
  };
  tell('introspected', await introspect());
  await client.tokenRevocation(app, refreshed.refresh_token, { token_type_hint: 'refresh_token' });
  tell('introspected after revocation', await introspect());
  tell('refreshed after revocation', await refused(() => client.refreshTokenGrant(app, refreshed.refresh_token), said));
}

const registered = await client.dynamicClientRegistration(new URL(ISSUER),
  { client_name: 'Agent', redirect_uris: [REDIRECT], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] },
  undefined, { execute });
tell('registered', { secret: registered.clientMetadata().client_secret !== undefined, method: registered.clientMetadata().token_endpoint_auth_method });

const { kid, ...jwk } = JSON.parse(SIGNED_KEY);
const key = await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']);
const signed = await client.discovery(new URL(ISSUER), SIGNED_ID, undefined, client.PrivateKeyJwt({ key, kid }), { execute });
const machine = await client.clientCredentialsGrant(signed, { scope: 'mcp:tools:weather', resource: RESOURCE });
tell('machine', { by: 'key', scope: machine.scope, refresh: machine.refresh_token !== undefined });
process.exit(0);
