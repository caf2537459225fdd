"""An MCP server with the official Python SDK, protected by Cardea: pip install mcp "pyjwt[crypto]"."""

import logging
import os
from urllib.parse import urlsplit

import uvicorn

from cardea import Protect

try:
    from mcp.server.mcpserver import MCPServer  # SDK 2
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer  # SDK 1

ISSUER = os.environ.get("ISSUER", "http://localhost:8080")  # Cardea
RESOURCE = os.environ.get("RESOURCE", "http://localhost:8000/mcp")  # this server, as it is registered there

mcp = MCPServer("weather")


@mcp.tool()
def get_forecast(city: str) -> str:
    """Tomorrow's weather in a city."""
    return f"{city}: sunny"


@mcp.tool()
def send_email(to: str, text: str) -> str:
    """Send an e-mail in the person's name."""
    return "sent"


app = Protect(
    mcp.streamable_http_app(),  # at /mcp
    issuer=ISSUER,
    resource=RESOURCE,
    scopes_of={"get_forecast": "mcp:tools:weather", "send_email": "mcp:tools:email:send"},
    first_scopes=["mcp:tools:weather"],
)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    uvicorn.run(app, host=urlsplit(RESOURCE).hostname, port=urlsplit(RESOURCE).port)
