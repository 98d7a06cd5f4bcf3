"""What explainers warn of: a line on the page, where it is read, and not in the terminal of ``ibd serve``."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ibd.app.page.long_work import Told
from ibd.app.page.looking import held

_SHOWING = threading.RLock()


@contextmanager
def remarks(told: Told) -> Iterator[list[str]]:
    """Collect what this thread is warned of, each line once.

    How warnings are shown is of the whole process, so that one thread at a time can do this; what others are warned of
    goes where it went.

    Raises:
        Stopped: nobody waits for this thread any more.
    """
    lines, here = list[str](), threading.get_ident()
    with held(_SHOWING, told), warnings.catch_warnings():
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if threading.get_ident() != here or category is not UserWarning:
                show(message, category, *where, **more)
            elif (line := " ".join(str(message).split())) not in lines:
                lines.append(line)

        warnings.simplefilter("always", UserWarning)  # of the second image too
        warnings.showwarning = note
        yield lines
