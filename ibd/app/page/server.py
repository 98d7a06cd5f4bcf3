"""The application behind ``ibd serve``, and the server that runs it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ibd.app.page import data_set, examining, model, one_image, teaching
from ibd.app.page.access import Access
from ibd.app.page.answers import as_json
from ibd.app.page.long_work import WorkThread
from ibd.app.page.site import GoneError, NotFoundError, Site
from ibd.app.page.uploads import LostError
from ibd.errors import ConfigError, IbdError, disk_trouble, lacks_memory

MODES = (one_image, examining, data_set, model, teaching)
"""The modules with ``routes(site)``: what the page can be asked."""
_STATIC = Path(__file__).parent / "static"
_PORTS = 20
"""Ports that are tried after the wanted one, before the system chooses."""
_PATIENCE = 0.5
"""Seconds in which what is short ends by itself after Ctrl-C."""


def make_app(site: Site, access: Access) -> ASGIApp:
    """Return the application.

    Args:
        site: what is served.
        access: who may ask.
    """
    routes = [Route("/", _index), *(route for mode in MODES for route in mode.routes(site))]
    routes.append(Mount("/static", StaticFiles(directory=_STATIC)))
    handlers: dict[Any, Callable[[Request, Exception], Any]] = {
        IbdError: _mistake,
        HTTPException: _refused,
        Exception: _failed,
    }
    return access.wraps(Starlette(routes=routes, exception_handlers=handlers))


async def _index(request: Request) -> Response:
    return FileResponse(_STATIC / "index.html")


async def _mistake(request: Request, error: Exception) -> Response:
    """Return what was wrong in one line, as the command line would print it."""
    status = 404 if isinstance(error, NotFoundError) else 410 if isinstance(error, GoneError | LostError) else 400
    return as_json({"error": " ".join(str(error).split())}, status)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else str(error)
    return as_json({"error": detail}, status)


async def _failed(request: Request, error: Exception) -> Response:
    """Return in one line what nobody foresaw; the server prints the rest where it was started."""
    reason = disk_trouble(error) or ("there is not enough memory for this" if lacks_memory(error) else None)
    return as_json({"error": reason or f"this failed ({type(error).__name__}); the terminal says more"}, 500)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at a port, or at a later one where that is taken.

    Raises:
        ConfigError: the address is none of this machine's, or no port is free.
    """
    reason: OSError | None = None
    for tried in (*range(port, min(port + _PORTS, 65536)), 0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, tried))
            listener.listen(128)
        except OSError as error:
            listener.close()
            reason = error
            continue
        return listener
    assert reason is not None
    raise ConfigError(f"--host {host}: cannot listen there: {reason.strerror or reason}")


def start(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until Ctrl-C, which ends it at once, whatever is being computed."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        ws="none",
        lifespan="off",
    )
    with contextlib.suppress(KeyboardInterrupt):  # which the server raises again when it has ended
        uvicorn.Server(config).run(sockets=[listener])


def leave() -> None:
    """End the process if something is still being computed, which would hold it up: nobody waits for that any more."""
    main = threading.main_thread()
    others = [
        each for each in threading.enumerate() if each is not main and (isinstance(each, WorkThread) or not each.daemon)
    ]
    for each in others:
        each.join(_PATIENCE / len(others))
    if any(each.is_alive() for each in others):
        sys.stdout.flush()
        os._exit(0)
