// An MCP server in Express that Cardea protects: token validation, scopes, metadata, introspection, rate limits.

import express from 'express';
import rateLimit from 'express-rate-limit';
import { jwtVerify, createRemoteJWKSet } from 'jose';
import { issuer, mcpServer, id, secret } from './settings.mjs';

const app = express();
app.use(express.json());

// Token validation: a JSON Web Token, verified with the issuer's published keys.

const JWKS = createRemoteJWKSet(
  new URL(`${issuer}/.well-known/jwks`)
);

// WWW-Authenticate header for 401 responses
const WWW_AUTHENTICATE_HEADER = [
  'Bearer error="unauthorized"',
  'error_description="Authorization required"',
  `resource_metadata="${mcpServer}/.well-known/oauth-protected-resource"`
].join(', ');

const validateToken = async (req, res, next) => {
  const authHeader = req.headers.authorization;
  const token = authHeader?.match(/^Bearer (.+)$/)?.[1];

  if (!token) {
    return res
      .set('WWW-Authenticate', WWW_AUTHENTICATE_HEADER)
      .status(401)
      .json({
        error: 'unauthorized',
        error_description: 'Bearer token required'
      });
  }

  try {
    const { payload } = await jwtVerify(token, JWKS, {
      issuer: issuer,
      audience: mcpServer // Your MCP server identifier
    });

    // Attach token claims to request for downstream use
    req.auth = {
      userId: payload.sub,
      scopes: payload.scope?.split(' ') || [],
      clientId: payload.client_id,
      expiresAt: payload.exp
    };

    next();
  } catch (error) {
    console.error('Token validation failed:', error.message);
    return res
      .set('WWW-Authenticate', WWW_AUTHENTICATE_HEADER)
      .status(401)
      .json({
        error: 'invalid_token',
        error_description: 'Bearer token is invalid or expired'
      });
  }
};

// Apply to all MCP endpoints
app.use('/mcp', validateToken);

// Rate limits: by client, and higher for clients with wider scopes.

const createClientRateLimit = () => {
  return rateLimit({
    windowMs: 15 * 60 * 1000, // 15 minutes
    limit: (req) => {
      // Different limits based on client type or scopes
      const scopes = req.auth?.scopes || [];
      if (scopes.includes('mcp:tools:*')) return 1000; // Premium client
      if (scopes.includes('mcp:tools:basic')) return 100; // Basic client
      return 50; // Default limit
    },
    keyGenerator: (req) => req.auth?.clientId || req.ip,
    message: {
      error: 'rate_limit_exceeded',
      error_description: 'Too many requests from this client'
    }
  });
};

app.use('/mcp', createClientRateLimit());

// Scopes: each tool asks for its own.

const requireScope = (requiredScope) => {
  return (req, res, next) => {
    const userScopes = req.auth.scopes || [];

    if (!userScopes.includes(requiredScope)) {
      return res.status(403).json({
        error: 'insufficient_scope',
        error_description: `Required scope: ${requiredScope}`,
        scope: requiredScope
      });
    }

    next();
  };
};

const handleWeatherRequest = (req, res) => res.json({ location: req.body.params?.location, forecast: 'sunny' });
const handleCalendarRead = (req, res) => res.json({ user: req.auth.userId, events: ['Stand-up', 'Lunch with Ada'] });
const handleEmailSend = (req, res) => res.json({ sent: true });

// Example: Protect specific MCP tools with scopes
app.post('/mcp/tools/weather',
  requireScope('mcp:tools:weather'),
  handleWeatherRequest
);

app.post('/mcp/tools/calendar',
  requireScope('mcp:tools:calendar:read'),
  handleCalendarRead
);

app.post('/mcp/tools/send-email',
  requireScope('mcp:tools:email:send'),
  handleEmailSend
);

// Discovery: how a client finds out where to get a token.

// Required: OAuth Protected Resource Metadata endpoint
app.get('/.well-known/oauth-protected-resource', (req, res) => {
  res.json({
    resource: mcpServer,
    authorization_servers: [issuer],
    bearer_methods_supported: ['header'],
    resource_documentation: `${mcpServer}/docs`,
    scopes_supported: [
      'mcp:tools:weather',
      'mcp:tools:calendar:read',
      'mcp:tools:calendar:write',
      'mcp:tools:email:send',
      'mcp:resources:*'
    ]
  });
});

// Optional: Proxy authorization server metadata for legacy clients
app.get('/.well-known/oauth-authorization-server', async (req, res) => {
  try {
    const response = await fetch(
      `${issuer}/.well-known/oauth-authorization-server`
    );
    const metadata = await response.json();
    res.json(metadata);
  } catch (error) {
    res.status(500).json({ error: 'Failed to fetch authorization server metadata' });
  }
});

// Introspection: for what must not be done with a token that was revoked a moment ago.

const introspectToken = async (token) => {
  const response = await fetch(`${issuer}/oauth2/introspect`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/x-www-form-urlencoded',
      'Authorization': `Basic ${btoa(`${id('RS')}:${secret('RS')}`)}`
    },
    body: new URLSearchParams({ token })
  });

  return await response.json();
  // Returns: { active: true, scope: '...', client_id: '...', exp: ... }
};

// Enhanced middleware with introspection
const strictTokenValidation = async (req, res, next) => {
  const token = req.headers.authorization?.match(/^Bearer (.+)$/)?.[1];

  if (!token) {
    return res.status(401).json({ error: 'Bearer token required' });
  }

  try {
    // First validate JWT structure and signature
    const { payload } = await jwtVerify(token, JWKS, {
      issuer: issuer
    });

    // Then introspect for real-time validation
    const introspection = await introspectToken(token);

    if (!introspection.active) {
      return res.status(401).json({ error: 'Token is not active' });
    }

    req.auth = {
      ...payload,
      scopes: introspection.scope?.split(' ') || []
    };

    next();
  } catch (error) {
    return res.status(401).json({ error: 'Invalid token' });
  }
};

app.post('/strict/tools/calendar',
  strictTokenValidation,
  requireScope('mcp:tools:calendar:read'),
  (req, res) => res.json({ user: req.auth.sub, events: ['Stand-up', 'Lunch with Ada'] })
);

const { hostname, port } = new URL(mcpServer);
app.listen(port, hostname, (error) => {
  if (error) throw error;
  console.log(`MCP server on ${mcpServer}`);
});
