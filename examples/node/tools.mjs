// The tools of the example. They do not check tokens, because server.mjs refuses a call that its token does not allow.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { z } from 'zod';

export function newServer() {
  const server = new McpServer({ name: 'node-example', version: '1.0.0' });
  server.registerTool(
    'get_forecast',
    { description: "Tomorrow's weather in a city", inputSchema: { city: z.string() }, annotations: { readOnlyHint: true } },
    async ({ city }) => ({ content: [{ type: 'text', text: `${city}: sunny, 24 °C` }] }),
  );
  server.registerTool(
    'create_event',
    { description: "Put an event into the person's calendar", inputSchema: { title: z.string(), start: z.string() } },
    async ({ title, start }, { authInfo }) => ({ content: [{ type: 'text', text: `${title} at ${start}, for ${authInfo.extra.user}` }] }),
  );
  return server;
}
