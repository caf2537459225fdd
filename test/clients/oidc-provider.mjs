// An OpenID provider that others wrote, with one person, for upstream_test.go. POST /leave makes the person unknown.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const { ISSUER, REDIRECT_URI, CLIENT_SECRET } = process.env;
let left = false;
const provider = new Provider(ISSUER, {
  clients: [{ client_id: 'cardea', client_secret: CLIENT_SECRET, redirect_uris: [REDIRECT_URI], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] }],
  claims: { openid: ['sub'], profile: ['name', 'groups'], email: ['email', 'email_verified'] },
  findAccount: (ctx, id) => left ? undefined : { accountId: id, claims: () => ({ sub: id, name: 'Ada', email: `${id}@corp.example`, email_verified: true, groups: ['Engineering'] }) },
  pkce: { required: () => true },
});
const serve = provider.callback();
createServer((req, res) => {
  if (req.method !== 'POST' || req.url !== '/leave') return serve(req, res);
  left = true;
  res.end();
}).listen(new URL(ISSUER).port, new URL(ISSUER).hostname);
