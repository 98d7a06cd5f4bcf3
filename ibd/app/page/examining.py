"""What a closer look at one image asks of the server: maps, examples, explainers, other answers, downloads."""

from __future__ import annotations

from starlette.routing import Route

from ibd.app.page.site import Site


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""
    return []
