// node typescript-v1.mjs MCP_URL [OPTIONS]: a session with the official TypeScript SDK v1.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { run } from './session.mjs';

const finish = (transport, params) => transport.finishAuth(params.get('code'));
await run({ Client, StreamableHTTPClientTransport, UnauthorizedError, finish, refreshesFirst: true });
