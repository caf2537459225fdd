"""Serves cardea.py of examples/python around a small application, as uvicorn would, without any other package."""

import asyncio
import http.server
import json
import logging
import os
import sys
from urllib.parse import urlsplit

sys.path.insert(0, os.environ["EXAMPLE"])
import cardea  # noqa: E402


async def ran(scope, receive, send):
    """Answers with what it was sent, and by whom."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    body = json.dumps({"sub": scope["cardea"]["sub"], "body": message["body"].decode()})
    await send({"type": "http.response.body", "body": body.encode()})


app = cardea.Protect(
    ran, issuer=os.environ["ISSUER"], resource=os.environ["RESOURCE"], first_scopes=["mcp:tools:weather"],
    scopes_of={"get_forecast": "mcp:tools:weather", "send_email": "mcp:tools:email:send"},
)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            if message["type"] == "http.response.start":
                self.send_response(message["status"])
                for name, value in message["headers"]:
                    self.send_header(name.decode(), value.decode())
                self.end_headers()
            else:
                self.wfile.write(message["body"])

        scope = {"type": "http", "method": self.command, "path": urlsplit(self.path).path,
                 "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in self.headers.items()]}
        asyncio.run(app(scope, receive, send))

    do_GET = do_OPTIONS = do_POST

    def log_message(self, *_):
        pass


logging.basicConfig(level=logging.INFO, format="%(message)s")
at = urlsplit(os.environ["RESOURCE"])
http.server.ThreadingHTTPServer((at.hostname, at.port), Handler).serve_forever()
