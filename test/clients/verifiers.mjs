// Libraries that verify access tokens get only the issuer and find the rest by discovery. TOKENS is a list of {alg,
// resource, token, audience}: does an API with that audience accept the token?

import express from 'express';
import { auth } from 'express-oauth2-jwt-bearer';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';
import { tell } from './steps.mjs';

const { ISSUER, TOKENS } = process.env;
const insecure = { [oauth.allowInsecureRequests]: true }; // http, on loopback
const discovered = await oauth.discoveryRequest(new URL(ISSUER), insecure);
const server = await oauth.processDiscoveryResponse(new URL(ISSUER), discovered);
const keys = createRemoteJWKSet(new URL(server.jwks_uri));

// Each function returns normally if it accepts the token.
const verifiers = {
  async jose(token, audience) {
    await jwtVerify(token, keys, { issuer: ISSUER, audience, typ: 'at+jwt', algorithms: server.id_token_signing_alg_values_supported });
  },
  async 'oauth4webapi'(token, audience) {
    const request = new Request(audience, { headers: { Authorization: `Bearer ${token}` } });
    await oauth.validateJwtAccessToken(server, request, audience, insecure);
  },
  async 'express-oauth2-jwt-bearer'(token, audience) {
    const app = express();
    app.get('/', auth({ issuerBaseURL: ISSUER, audience, strict: true }), (req, res) => res.json(req.auth.payload.sub));
    app.use((error, req, res, next) => res.status(error.status ?? 500).json(error.message));
    const listening = app.listen(0, '127.0.0.1');
    await new Promise((resolve) => listening.once('listening', resolve));
    try {
      const response = await fetch(`http://127.0.0.1:${listening.address().port}/`, { headers: { Authorization: `Bearer ${token}` } });
      if (response.status !== 200) throw new Error(`${response.status}: ${await response.json()}`);
    } finally {
      listening.closeAllConnections();
      listening.close();
    }
  },
};

for (const [library, verify] of Object.entries(verifiers)) {
  for (const { alg, token, resource, audience } of JSON.parse(TOKENS)) {
    const verdict = await verify(token, audience).then(() => 'accepted', (error) => `${error.code ?? ''} ${error.message}`.trim());
    tell(library, { alg, own: resource === audience, accepted: verdict === 'accepted', verdict });
  }
}
process.exit(0);
