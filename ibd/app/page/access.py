"""Who may ask the page: the one with the token, or the password, and only from the page itself.

The threats: another user of the machine, who can reach a loopback port; a web site in the same browser, which can send
requests to it (cross-origin), or have its own name resolve to it (DNS rebinding); and, with ``--host``, the network.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import secrets
import socket
import time
from collections import OrderedDict
from html import escape
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ibd.app.page.answers import read_body

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Of every answer: nothing from elsewhere is loaded, shown, or told of this page."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_SESSIONS = 256
_CLIENTS = 1024
_FREE_TRIES = 3
_LONGEST_WAIT = 60.0


class Access:
    """Lets in whoever brings the token once, or the password where there is one; after that a cookie tells.

    Args:
        host: address that the server listens at.
        port: port of it; the cookies of two pages of one machine must differ in name.
        password: password; None lets in by the token in the address.

    Attributes:
        token: random token.
        cookie: name of the cookie.
    """

    def __init__(self, host: str, port: int, password: str | None = None) -> None:
        self.token = secrets.token_urlsafe(32)
        self.cookie = f"ibd-{port}"
        self._password = None if password is None else _digest(password)
        own = set() if is_loopback(host) else {socket.gethostname(), socket.getfqdn()}
        self._names = {name.lower() for name in {*_LOOPBACK, host, *own}}  # browsers send names in small letters
        self._any_number = not is_loopback(host)
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wraps(self, app: ASGIApp) -> ASGIApp:
        """Return an application that answers strangers itself, and hands the rest on with ``scope["session"]`` set."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            elif scope["type"] == "http":
                answer = await self._answer(scope, receive)
                await (app if answer is None else answer)(scope, receive, _with_headers(send))
            # a websocket is none of ours: without an answer the server refuses it

        return guarded

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the answer to a stranger or to who comes in now; None for whom the page is."""
        request = Request(scope, receive)
        if not self._host_is_known(request.headers):
            return _refused(request, 400, "this page is not served under that name")
        if _crosses_origins(request):
            return _refused(request, 403, "requests from other sites are refused")
        session = request.cookies.get(self.cookie, "")
        if any(secrets.compare_digest(session.encode(), known.encode()) for known in self._sessions):
            if request.scope["path"] == "/login" or (request.scope["path"] == "/" and "token" in request.query_params):
                return RedirectResponse("/", 303)
            scope["session"] = session
            return None
        if self._password is not None:
            return await self._login(request)
        if request.method == "GET" and _same(_digest(request.query_params.get("token", "")), _digest(self.token)):
            return self._enter(_without_token(request))
        line = "this page opens by the address that `ibd serve` has printed, with its token"
        if session:  # a tab that was left open
            line = (
                "this page was started anew, or you were away for long: open the address that `ibd serve` printed last"
            )
        return _refused(request, 403, line)

    def _host_is_known(self, headers: Headers) -> bool:
        """Return whether the page is asked for by a name of its own: a stranger's may resolve to this machine."""
        name = re.sub(r":\d*$", "", headers.get("host", "")).strip("[]").lower()
        return name in self._names or (self._any_number and is_number(name))

    async def _login(self, request: Request) -> Response:
        """Return the form that asks for the password, or what comes of an answer to it."""
        if request.scope["path"] != "/login" or request.method != "POST":
            if request.method == "GET" and request.scope["path"] in ("/", "/login"):
                return _form("", 200 if request.scope["path"] == "/login" else 403)
            return _refused(request, 403, "say the password first, at /login")
        try:
            content = (await read_body(request, 4096)).decode("utf-8", "replace")
        except HTTPException as error:
            return _refused(request, error.status_code, error.detail)
        who = request.client.host if request.client else ""
        if (wait := self._wait(who)) > 0:  # asked once all has come: else many that are sent slowly would all be free
            return _form(f"Too many wrong passwords: wait {wait:.0f} seconds.", 429)
        given = parse_qs(content).get("password", [""])[0]
        if self._password is not None and _same(_digest(given), self._password):
            self._wrong.pop(who, None)
            return self._enter("/")
        count = self._wrong.pop(who, (0, 0.0))[0] + 1
        self._wrong[who] = (count, time.monotonic())
        if len(self._wrong) > _CLIENTS:
            self._wrong.popitem(last=False)
        return _form("This is not the password.", 403)

    def _wait(self, who: str) -> float:
        """Return for how many seconds a client must wait after wrong passwords: longer with each after the third."""
        count, last = self._wrong.get(who, (0, 0.0))
        if count < _FREE_TRIES:
            return 0.0
        return min(2.0 ** min(count - _FREE_TRIES, 10), _LONGEST_WAIT) - (time.monotonic() - last)

    def _enter(self, path: str) -> Response:
        """Return what sends a browser to the page, with a cookie that lets it in."""
        session = secrets.token_urlsafe(32)
        self._sessions[session] = None
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        answer = RedirectResponse(path, 303)
        answer.set_cookie(self.cookie, session, httponly=True, samesite="strict", path="/")
        return answer


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine alone."""
    return host in _LOOPBACK or (is_number(host) and ipaddress.ip_address(host).is_loopback)


def is_number(host: str) -> bool:
    """Return whether an address is one of numbers, which no name server can make another."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _same(first: bytes, second: bytes) -> bool:
    return secrets.compare_digest(first, second)


def _crosses_origins(request: Request) -> bool:
    """Return whether another site makes the browser ask; it may link to the page, but send and embed nothing."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    if request.method in ("GET", "HEAD"):
        return site not in ("same-origin", "none") and request.headers.get("sec-fetch-mode") != "navigate"
    origin = request.headers.get("origin")
    own = f"://{request.headers.get('host', '')}"
    foreign = origin is not None and origin not in (f"http{own}", f"https{own}")
    return foreign or site not in ("same-origin", "none")


def _without_token(request: Request) -> str:
    """Return the path that was asked for, without the token."""
    rest = urlencode([(key, value) for key, value in request.query_params.multi_items() if key != "token"])
    path = "/" + request.scope["path"].lstrip("/")  # two slashes would name another machine
    return f"{path}?{rest}" if rest else path


def _refused(request: Request, status: int, line: str) -> Response:
    if request.scope["path"].startswith("/api/"):
        return JSONResponse({"error": line}, status)
    return PlainTextResponse(f"{line}\n", status)


def _form(said: str, status: int) -> Response:
    alert = f'<p role="alert">{escape(said)}</p>' if said else ""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ibd: password</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"></head><body><main>'
        f'<h1>ibd</h1>{alert}<form method="post" action="/login"><p><label for="password">Password</label> '
        '<input id="password" name="password" type="password" autocomplete="current-password" required autofocus> '
        "<button>Open</button></p></form></main></body></html>",
        status,
    )


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds what every answer says."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            if message["status"] == 413:  # else the server reads on what nobody wants
                headers["connection"] = "close"
        await send(message)

    return sending
