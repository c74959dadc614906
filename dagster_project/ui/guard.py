"""Refuses what a page from elsewhere, in the browser of somebody who has the Dagster UI open, would send to it.

Dagster's own server answers whatever name it is called by, takes changes by GET and by a form, and opens web sockets
for any page: a page that the user visits could launch runs on `localhost`. So a request must call this machine by a
name that is its own, or by an address, which no foreign page can do; and a page that sends one must come from here.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

NAMES_VARIABLE = "LWF_UI_NAMES"
"""Names by which a browser may call the server, with commas between; `lwf ui --name` sets it."""


def names_of_this_machine() -> frozenset[str]:
    """Those that are ours without being told."""
    return frozenset({"localhost", socket.gethostname().lower(), socket.getfqdn().lower()})


def told_names() -> frozenset[str]:
    """Those of the environment."""
    return frozenset(name.strip().lower() for name in os.environ.get(NAMES_VARIABLE, "").split(",") if name.strip())


class Guard:
    """ASGI middleware around Dagster's web server."""

    def __init__(self, app: ASGIApp, names: Iterable[str] | None = None) -> None:
        self.app = app
        self.told = told_names() if names is None else frozenset(names)
        self.names = self.told | names_of_this_machine()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what is refused with 403, and hand on the rest."""
        why = self._why_not(scope) if scope["type"] in ("http", "websocket") else None
        if why is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=why)(scope, receive, send)
        else:
            await PlainTextResponse(f"{why}\n", status_code=403)(scope, receive, send)

    def _why_not(self, scope: Scope) -> str | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        called = headers.get("host", "")
        if not self._is_ours(called):
            return "This server is not called by that name. `lwf ui --name NAME` allows one."
        origin = headers.get("origin")
        if origin is not None and not self._is_same(origin, called):
            return "A page from elsewhere may not send requests here. `lwf ui --name NAME` allows one behind a proxy."
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "A page from elsewhere may not send requests here."
        if scope.get("method") == "GET" and scope["path"].endswith("/graphql") and "query" in _asked(scope):
            return "GraphQL is answered by POST alone: what changes something must not be a link."
        return None

    def _is_ours(self, called: str) -> bool:
        name = _name(f"//{called}")
        return name is not None and (name in self.names or name.endswith(".localhost") or _is_address(name))

    def _is_same(self, origin: str, called: str) -> bool:
        """Whether a page is from this server; behind a proxy that calls us otherwise, from a name that was told."""
        return urlsplit(origin).netloc == called or _name(origin) in self.told


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _asked(scope: Scope) -> set[str]:
    return {part.partition("=")[0] for part in scope.get("query_string", b"").decode("latin-1").split("&")}
