// An MCP server on the official TypeScript SDK, protected by Cardea. Everything about authorization is in this file.
import express from 'express';
import cors from 'cors';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { newServer } from './tools.mjs';

const issuer = process.env.ISSUER ?? 'http://localhost:8080'; // Cardea
const resource = process.env.RESOURCE ?? 'http://localhost:8090/mcp'; // this server, exactly as Cardea knows it
const scopesOf = { get_forecast: 'mcp:tools:weather', create_event: 'mcp:tools:calendar:write' }; // what each tool needs
const firstScopes = ['mcp:tools:weather']; // what an agent asks for at first; it asks for more when a tool needs more

// Where clients look for the authorization server (RFC 9728 §3.1).
const { origin, pathname, hostname, port } = new URL(resource);
const wellKnown = '/.well-known/oauth-protected-resource';
const metadata = origin + wellKnown + (pathname === '/' ? '' : pathname);
const keys = createRemoteJWKSet(new URL(issuer + '/.well-known/jwks'));

// challenge refuses a request and tells the client how to get a sufficient token (RFC 6750 §3).
function challenge(res, status, scopes, error, description) {
  const parts = [`resource_metadata="${metadata}"`, `scope="${scopes.join(' ')}"`];
  if (error) parts.unshift(`error="${error}"`, `error_description="${description}"`);
  res.status(status).set('WWW-Authenticate', 'Bearer ' + parts.join(', ')).json({ error, error_description: description });
}

// authenticate refuses a request without a valid access token (RFC 9068 §4), and puts the claims into req.auth.
async function authenticate(req, res, next) {
  const token = /^Bearer ([\w.~+/-]+=*)$/i.exec(req.headers.authorization ?? '')?.[1];
  if (!token) return challenge(res, 401, firstScopes);
  try {
    const { payload } = await jwtVerify(token, keys, { issuer, audience: resource, typ: 'at+jwt', requiredClaims: ['exp', 'sub', 'client_id'] });
    req.auth = { token, clientId: payload.client_id, scopes: (payload.scope ?? '').split(' '), expiresAt: payload.exp, extra: { user: payload.sub, tokenId: payload.jti } };
  } catch (error) {
    const unreachable = ['ERR_JWKS_TIMEOUT', 'ERR_JOSE_GENERIC', undefined].includes(error.code); // no keys; the token may be valid
    if (unreachable) return res.status(503).json({ error: 'temporarily_unavailable' });
    return challenge(res, 401, firstScopes, 'invalid_token', 'The access token is invalid or has expired');
  }
  next();
}

// authorize refuses a tool call if the token lacks its scope; the client then asks the person for it (step-up). A tool
// without a line in scopesOf is refused. authorize checks the very object that the SDK acts on.
function authorize(req, res, next) {
  if (Array.isArray(req.body)) return res.status(400).json({ error: 'Send one message at a time' });
  if (req.body?.method !== 'tools/call') return next();
  const needed = Object.hasOwn(scopesOf, req.body.params?.name ?? '') && scopesOf[req.body.params.name];
  if (!needed) return res.status(403).json({ error: 'unknown_tool', error_description: 'This server has no such tool' });
  const covers = (scope) => scope === needed || (scope.endsWith(':*') && needed.startsWith(scope.slice(0, -1)));
  if (req.auth.scopes.some(covers)) return next();
  challenge(res, 403, [...new Set([...req.auth.scopes, needed])], 'insufficient_scope', `${req.body.params.name} needs ${needed}`);
}

// record writes a line for each tool call, for the audit. Arguments and results are private.
function record(req, res, next) {
  const started = Date.now();
  res.on('close', () => {
    if (req.body?.method !== 'tools/call') return;
    const outcome = res.statusCode === 403 ? 'refused' : res.statusCode === 200 && res.writableFinished ? 'allowed' : 'failed';
    const { clientId, extra } = req.auth;
    console.log(JSON.stringify({ event: 'tool.call', tool: String(req.body.params?.name).slice(0, 256), outcome, user: extra.user, client_id: clientId, token_id: extra.tokenId, duration_ms: Date.now() - started }));
  });
  next();
}

const app = express();
app.use(cors({ exposedHeaders: ['WWW-Authenticate', 'Mcp-Session-Id', 'Mcp-Protocol-Version'] })); // for clients in browsers
app.get([metadata.slice(origin.length), wellKnown], (req, res) => {
  res.json({ resource, authorization_servers: [issuer], scopes_supported: firstScopes, bearer_methods_supported: ['header'] });
});
app.post(pathname, authenticate, record, express.json({ limit: '1mb' }), authorize, async (req, res) => {
  const server = newServer(); // one for each request: nothing is kept between them
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  res.on('close', () => Promise.all([transport.close(), server.close()]));
  await server.connect(transport);
  await transport.handleRequest(req, res, req.body);
});
app.all(pathname, authenticate, (req, res) => res.status(405).set('Allow', 'POST').end());
app.listen(port || 80, hostname, (error) => {
  if (error) throw error;
  console.log(`MCP server on ${resource}`);
});
