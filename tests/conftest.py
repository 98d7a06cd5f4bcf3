import signal
import sys

import pytest

# A shell starts what it puts into the background with Ctrl-C ignored, and so would be all processes of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)

_not_of_tests = set()  # names looked at before: thousands of modules after each of thousands of tests cost a minute


@pytest.fixture(autouse=True)
def _no_modules_left(tmp_path_factory):
    """Forget the modules that a test has written and imported: the next test's `own.py` is another one."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    base = str(tmp_path_factory.getbasetemp())
    for name in sys.modules.keys() - _not_of_tests:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(base):
            del sys.modules[name]
        else:
            _not_of_tests.add(name)
