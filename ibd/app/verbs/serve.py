"""``ibd serve``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from ibd.app.terminal import count, newest
from ibd.app.verbs.base import Verb
from ibd.errors import ConfigError, UnsupportedError

_VARIABLE = "IBD_PAGE_PASSWORD"
_SHORTEST = 8


def run(runs: list[str], host: str, port: int, password_file: str | None) -> Iterator[str]:
    """Open a page in the browser to look at models, correct them by hand, and debug them: RUN [RUN ...].

    It answers this machine alone, under an address with a token that is printed; nothing leaves the machine, and images
    that are brought to it stay in memory. Ctrl-C ends it. --host takes requests of others too, and needs a password:
    from --password-file, or from the environment variable IBD_PAGE_PASSWORD.
    """
    _check_installed()
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port {port}: a number from 0, any free one, to 65535 is needed")
    from ibd.app.page.access import Access, is_loopback
    from ibd.app.page.server import bound_socket, leave, make_app, start
    from ibd.app.page.site import Site

    password = _password(password_file)
    if password is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: others could reach it, so a password is needed: --password-file FILE, or the environment "
            f"variable {_VARIABLE}"
        )
    site = Site([newest(run) for run in runs])
    with bound_socket(host, port) as listener:
        taken = listener.getsockname()[1]
        if port not in (0, taken):
            yield f"port {port} is taken: using {taken}"
        access = Access(host, taken, password)
        yield from (f"{served.key}: {served.folder}" for served in site.runs.values())
        shown = f"[{host}]" if ":" in host else host
        token = "" if password is not None else f"?token={access.token}"
        yield f"open http://{shown}:{taken}/{token}"
        yield "Ctrl-C ends it"
        start(make_app(site, access), listener)
    yield "ended"
    leave()


def _check_installed() -> None:
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise UnsupportedError(f'ibd serve needs {error.name}: pip install "ibd[page]"') from None


def _password(file: str | None) -> str | None:
    """Return the password that is wanted; None where none is.

    Raises:
        ConfigError: the file cannot be read, or the password is too short.
    """
    if file is None:
        given, where = os.environ.get(_VARIABLE), _VARIABLE
    else:
        where = f"--password-file {file}"
        try:
            given = Path(file).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"{where}: cannot be read: {reason}") from None
    if given is not None and len(given) < _SHORTEST:
        raise ConfigError(f"{where}: the password has {len(given)} characters, at least {_SHORTEST} are needed")
    return given


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("runs", nargs="+", metavar="RUN")
    p.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at; default 127.0.0.1")
    p.add_argument("--port", type=count, default=8321, help="default 8321; a later one where it is taken")
    p.add_argument("--password-file", metavar="FILE", help="a file whose content is the password")


VERB = Verb(
    "serve",
    run,
    _arguments,
    (
        "ibd serve runs/toybirds-cbm",
        "ibd serve runs/mine runs/plain --port 9000",
        "ibd serve runs/mine --host 192.168.1.5 --password-file secret.txt",
    ),
    changing=False,
)
