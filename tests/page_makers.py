"""Small runs for the page, and who asks it."""

import functools

import torch
from starlette.testclient import TestClient

from ibd.app.page.access import Access
from ibd.app.page.server import make_app
from ibd.app.page.site import Site
from ibd.config.loading import load_config
from ibd.config.plain import save_config
from ibd.io import build_data
from tests.command import SMALL, TINY
from tests.model_makers import make_module


@functools.cache
def bird_config():
    """Return the config of small birds, resolved, with 33 test images."""
    return load_config(TINY, *SMALL)


@functools.cache
def bird_data():
    return build_data(bird_config().data)


def make_run(folder, make=make_module, **options):
    """Write a run of a random model on small birds, as if it had been trained, and return its folder."""
    module = make(bird_data().spec, **options)
    (folder / "checkpoints").mkdir(parents=True)
    module.save(folder / "checkpoints" / "best.ckpt")
    save_config(bird_config(), folder / "config.yaml")
    return folder


class Page:
    """A site, who may ask it, and browsers that do."""

    def __init__(self, *runs, host="127.0.0.1", password=None):
        self.site = Site([str(run) for run in runs])
        self.access = Access(host, 8000, password)
        self.app = make_app(self.site, self.access)

    def stranger(self, base="http://127.0.0.1:8000", raises=True):
        return TestClient(self.app, base_url=base, raise_server_exceptions=raises)

    def browser(self):
        """Return a browser that has come in by the token."""
        client = self.stranger()
        assert client.get("/", params={"token": self.access.token}).status_code == 200
        return client


def predict(client, run, image, edits=None, **more):
    """Ask for a prediction, and return what is said before and after."""
    answer = client.post(f"/api/runs/{run}/predict", json={"image": image, "edits": edits or {}, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def logits(said):
    return torch.tensor(said["logits"])
