"""What the teaching mode asks of the server."""

from __future__ import annotations

from starlette.routing import Route

from ibd.app.page.site import Site


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""
    return []
