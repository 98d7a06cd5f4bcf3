"""The page of `ibd serve`, really listening, for a browser."""

import contextlib
import threading

import uvicorn

from ibd.app.page.access import Access
from ibd.app.page.server import bound_socket, make_app
from ibd.app.page.site import Site


@contextlib.contextmanager
def serving(*runs):
    """Serve runs, or a site; yield the address with its token."""
    with bound_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        access = Access("127.0.0.1", port)
        site = runs[0] if isinstance(runs[0], Site) else Site([str(run) for run in runs])
        app = make_app(site, access)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/?token={access.token}"
        finally:  # a test that fails must not leave a thread which holds up the end
            server.should_exit = True
            thread.join()
