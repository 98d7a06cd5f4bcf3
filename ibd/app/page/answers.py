"""How functions become answers of the page: what was asked goes in, plain values come out as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor

from ibd.app.page.site import Entry, Served, Site
from ibd.errors import ConfigError

_MOST_JSON = 2**20


@dataclass(frozen=True)
class Asked:
    """What was asked of the page.

    Attributes:
        site: the site.
        path: parts of the address, such as ``run``.
        given: parameters of the address, as text, and entries of the JSON body, if there is one.
        session: browser that asks.
    """

    site: Site
    path: Mapping[str, Any]
    given: Mapping[str, Any]
    session: str

    @property
    def run(self) -> Served:
        """The run in the address."""
        return self.site.run(str(self.path["run"]))

    def image(self, key: str = "image") -> Entry:
        """Return the image that a parameter names, with its prediction."""
        return self.run.entry(self.text(key), self.site.uploads, self.session)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a parameter that is a text.

        Raises:
            ConfigError: it is missing and has no default, or is none.
        """
        value = self.given.get(key, default)
        if not isinstance(value, str):
            raise ConfigError(f"'{key}' is missing" if value is None else f"'{key}' is not a text")
        return value

    def number(self, key: str, default: float | None = None, least: float = -math.inf, most: float = math.inf) -> float:
        """Return a parameter that is a number.

        Raises:
            ConfigError: it is missing and has no default, is none, or out of range.
        """
        try:
            value = float(self.given.get(key, default))
        except (TypeError, ValueError, OverflowError):  # the last of a whole number of hundreds of digits
            raise ConfigError(f"'{key}': a number is needed") from None
        if not (math.isfinite(value) and least <= value <= most):
            raise ConfigError(f"'{key}': {value:g} given, a number from {least:g} to {most:g} is needed")
        return value

    def count(self, key: str, default: int | None = None, least: int = 0, most: int = 10**9) -> int:
        """Return a parameter that is a whole number.

        Raises:
            ConfigError: as for `number`.
        """
        value = self.number(key, default, least, most)
        if value != int(value):
            raise ConfigError(f"'{key}': {value:g} given, a whole number is needed")
        return int(value)


Answer = Callable[[Asked], Any]
"""Function that runs in a thread and returns plain values, tensors among them, or a response."""


def get(site: Site, path: str, answer: Answer) -> Route:
    """Return a route that answers GET requests; `path` may hold ``{run}``."""

    async def endpoint(request: Request) -> Response:
        return await _answered(answer, Asked(site, request.path_params, dict(request.query_params), session(request)))

    return Route(path, endpoint, methods=["GET"])


def post(site: Site, path: str, answer: Answer) -> Route:
    """Return a route that answers POST requests with a JSON object as body."""

    async def endpoint(request: Request) -> Response:
        given = {**request.query_params, **await _json(request)}
        return await _answered(answer, Asked(site, request.path_params, given, session(request)))

    return Route(path, endpoint, methods=["POST"])


def session(request: Request) -> str:
    """Return which browser asks, as `ibd.app.page.access.Access` found out."""
    return str(request.scope.get("session", ""))


async def _answered(answer: Answer, asked: Asked) -> Response:
    found = await run_in_threadpool(answer, asked)
    return found if isinstance(found, Response) else as_json(found)


def as_json(value: Any, status: int = 200) -> Response:
    """Return plain values as a JSON answer; NaN and infinite numbers become null."""
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def plain(value: Any) -> Any:
    """Return tensors as lists, and numbers that JSON does not know as None."""
    if isinstance(value, Tensor):
        if bool(value.isfinite().all()):
            return value.tolist()
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request, read as a stream and stopped at a bound.

    Raises:
        HTTPException: 413, it is longer; nothing more of it is read.
    """
    long = f"this is longer than {most / 2**20:.3g} MB, the most that is taken here"
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > most:
        raise HTTPException(413, long)
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > most:
            raise HTTPException(413, long)
        parts.append(part)
    return b"".join(parts)


async def _json(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request.

    Raises:
        ConfigError: there is none.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "a body of type application/json is needed")
    try:
        value = json.loads(await read_body(request, _MOST_JSON))
    except (ValueError, RecursionError):
        raise ConfigError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise ConfigError("the body is not a JSON object")
    return value
