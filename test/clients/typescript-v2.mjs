// node typescript-v2.mjs MCP_URL [OPTIONS]: a session with the official TypeScript SDK v2, which also checks `iss`.
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { run } from './session.mjs';

const finish = (transport, params) => transport.finishAuth(params);
await run({ Client, StreamableHTTPClientTransport, UnauthorizedError, finish });
