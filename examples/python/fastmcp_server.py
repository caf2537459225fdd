"""An MCP server with FastMCP, protected by Cardea: pip install fastmcp "pyjwt[crypto]"."""

import logging
import os
from urllib.parse import urlsplit

import uvicorn
from fastmcp import FastMCP

from cardea import Protect

ISSUER = os.environ.get("ISSUER", "http://localhost:8080")  # Cardea
RESOURCE = os.environ.get("RESOURCE", "http://localhost:8000/mcp")  # this server, as it is registered there

mcp = FastMCP("weather")


@mcp.tool
def get_forecast(city: str) -> str:
    """Tomorrow's weather in a city."""
    return f"{city}: sunny"


@mcp.tool
def send_email(to: str, text: str) -> str:
    """Send an e-mail in the person's name."""
    return "sent"


app = Protect(
    mcp.http_app(path=urlsplit(RESOURCE).path),
    issuer=ISSUER,
    resource=RESOURCE,
    scopes_of={"get_forecast": "mcp:tools:weather", "send_email": "mcp:tools:email:send"},
    first_scopes=["mcp:tools:weather"],
)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    uvicorn.run(app, host=urlsplit(RESOURCE).hostname, port=urlsplit(RESOURCE).port)
