"""How pages are made of templates: what is put into them is escaped, and a name that is not there is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jinja2


def page_environment(package: str, **filters: Callable[..., Any]) -> jinja2.Environment:
    """Return the environment of a package's templates.

    Args:
        package: name of the package that has a folder ``templates``.
        filters: what templates may call a value by.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment
