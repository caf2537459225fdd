// An MCP server in Express that does not check tokens: the guard in front of it decides which tools may be called. It
// parses messages as Express does, and is lenient with the method.

import express from 'express';

const app = express();
app.disable('x-powered-by');
app.use(express.json({ type: () => true }));
app.all('/mcp', (req, res) => {
  const messages = Array.isArray(req.body) ? req.body : [req.body ?? {}];
  const calls = messages.filter(({ method }) => String(method).split('\0')[0].trim().replace(/\/$/, '').toLowerCase() === 'tools/call');
  res.json({ ran: calls.map(({ params }) => params?.name) });
});
app.use((error, req, res, next) => res.status(error.status ?? 500).json({ error: error.type }));

const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
