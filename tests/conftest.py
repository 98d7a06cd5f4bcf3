import sys

import pytest


@pytest.fixture(autouse=True)
def _no_modules_left(tmp_path_factory):
    """Forget the modules that a test has written and imported: the next test's `own.py` is another one."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    base = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(base):
            del sys.modules[name]
