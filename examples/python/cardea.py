"""Authorization by Cardea for MCP servers in Python. Copy this file; it needs PyJWT: pip install "pyjwt[crypto]"."""

import asyncio
import json
import logging
import time
from urllib.error import URLError
from urllib.parse import urlsplit

import jwt

log = logging.getLogger("cardea")
MAX_BODY = 1 << 20
CORS = [  # for clients in browsers, whose requests carry a token and no cookie
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"WWW-Authenticate, Mcp-Session-Id, Mcp-Protocol-Version"),
]
PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, "
     b"Mcp-Protocol-Version, Mcp-Method, Mcp-Name"),
]
OUTCOMES = {200: "allowed", 403: "refused"}  # by the status of the answer


class Refusal(Exception):
    """The answer to a request that does not get through."""

    def __init__(self, status, error="", description="", scopes=None):
        super().__init__(description)
        self.status, self.error, self.description, self.scopes = status, error, description, scopes


class Protect:
    """An ASGI application that lets requests with a sufficient access token through to another one.

    scopes_of has the scope that each tool needs; a tool that is not in it is closed. first_scopes are those that an
    agent asks its user for at first. It asks for more when a tool needs more (step-up).
    """

    def __init__(self, app, *, issuer, resource, scopes_of, first_scopes, algorithm="ES256"):
        at = urlsplit(resource)
        self.app, self.issuer, self.resource, self.algorithm = app, issuer, resource, algorithm
        self.scopes_of, self.first_scopes = scopes_of, first_scopes
        self.well_known = "/.well-known/oauth-protected-resource"
        self.metadata = f"{at.scheme}://{at.netloc}{self.well_known}{at.path}"
        self.keys = jwt.PyJWKClient(issuer + "/.well-known/jwks")

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        if scope["method"] == "OPTIONS":
            return await answer(send, 204, None, [*CORS, *PREFLIGHT])
        if scope["path"] in (self.well_known, urlsplit(self.metadata).path):
            return await answer(send, 200, {
                "resource": self.resource, "authorization_servers": [self.issuer],
                "scopes_supported": self.first_scopes, "bearer_methods_supported": ["header"],
            }, CORS)
        claims, tool, started, status = {}, None, time.monotonic(), 0

        def record():
            nonlocal tool
            if tool is not None:  # arguments and results are private
                log.info(json.dumps({
                    "event": "tool.call", "tool": tool, "outcome": OUTCOMES.get(status, "failed"),
                    "user": claims.get("sub"), "client_id": claims.get("client_id"), "token_id": claims.get("jti"),
                    "duration_ms": int((time.monotonic() - started) * 1000),
                }))
            tool = None

        async def noted(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *CORS]}
            elif not message.get("more_body"):
                record()  # first, so that no answer is without it
            await send(message)

        try:
            claims = await self.authenticate(scope)
            scope = {**scope, "cardea": claims}  # for the tools: ctx.request_context.request.scope["cardea"]["sub"]
            body = await read(receive)
            tool = called(scope, body)
            if tool is not None:
                self.authorize(tool, claims)
            await self.app(scope, replayed(body, receive), noted)
        except Refusal as no:
            status = no.status
            await self.refuse(noted, no)
        finally:
            record()  # of a client that has gone

    async def authenticate(self, scope):
        """Returns the claims of the access token (RFC 9068 section 4)."""
        values = [value for name, value in scope["headers"] if name == b"authorization"]
        if not values:
            raise Refusal(401, scopes=self.first_scopes)
        kind, _, token = values[0].decode("latin-1").partition(" ")
        try:
            if len(values) > 1 or kind.lower() != "bearer":
                raise jwt.InvalidTokenError("there is not exactly one bearer token")
            return await asyncio.to_thread(self.verify, token.strip())  # keys may have to be fetched
        except jwt.PyJWTError as error:
            if isinstance(error.__context__, (URLError, TimeoutError)):  # the token may be valid
                raise Refusal(503, "temporarily_unavailable", "The authorization server cannot be reached") from error
            raise Refusal(401, "invalid_token", "The access token is invalid or has expired",
                          self.first_scopes) from error

    def verify(self, token):
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":  # an access token, and nothing else
            raise jwt.InvalidTokenError("it is not an access token")
        return jwt.decode(
            token, self.keys.get_signing_key_from_jwt(token).key, algorithms=[self.algorithm],
            issuer=self.issuer, audience=self.resource,
            options={"require": ["exp", "iss", "aud", "sub", "client_id"]},
        )

    def authorize(self, tool, claims):
        """Refuses a call whose scope is missing; the agent then asks its user for all those that are named."""
        if tool not in self.scopes_of:
            raise Refusal(403, "access_denied", "There is no such tool, or no client may call it")
        granted, needed = claims.get("scope", "").split(), self.scopes_of[tool]
        if not any(s == needed or s.endswith(":*") and needed.startswith(s[:-1]) for s in granted):
            raise Refusal(403, "insufficient_scope", f"The call needs {needed}", [*granted, needed])

    async def refuse(self, send, no):
        headers = []
        if no.scopes is not None:  # RFC 6750 section 3, RFC 9728 section 5.1
            parts = [f'resource_metadata="{self.metadata}"', f'scope="{" ".join(no.scopes)}"']
            if no.error:
                parts = [f'error="{no.error}"', f'error_description="{no.description}"', *parts]
            headers = [(b"www-authenticate", ("Bearer " + ", ".join(parts)).encode())]
        await answer(send, no.status, {"error": no.error, "error_description": no.description}, headers)


def called(scope, body):
    """Returns the name of the tool that a request calls, or None. A body that two programs could read differently is
    refused, because the server behind must call the very tool that was judged."""
    if scope["method"] != "POST":
        return None
    names = [name for name, _ in scope["headers"]]
    kinds = [value.lower().split(b";")[0].strip() for name, value in scope["headers"] if name == b"content-type"]
    if kinds != [b"application/json"] or b"content-encoding" in names:
        raise Refusal(415, "invalid_request", "The body must be application/json, and not compressed")
    try:
        message = json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_request", "The body is not JSON in UTF-8 with each member once") from error
    if not isinstance(message, dict):
        raise Refusal(400, "invalid_request", "Send one message at a time")
    if message.get("method") != "tools/call":
        return None
    params = message.get("params")
    name = params.get("name") if isinstance(params, dict) else None
    if not isinstance(name, str):
        raise Refusal(400, "invalid_request", "params.name is missing")
    return name


def once(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is there twice")
    return members


def no_constant(text):
    raise ValueError(text + " is not JSON")


async def read(receive):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise Refusal(413, "invalid_request", "The body is too long")
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return body


def replayed(body, receive):
    """Returns what gives the application the body that was judged, and then whether the client has gone."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_part():
        return parts.pop() if parts else await receive()

    return next_part


async def answer(send, status, members, headers=()):
    if members is not None:
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if members is None else json.dumps(members).encode()})
