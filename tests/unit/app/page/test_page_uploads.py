"""What is brought to the page: too long, no image, a bomb, odd names, many."""

import io
import struct
import zlib

import pytest
from PIL import Image

from ibd.app.page import uploads
from ibd.app.page.uploads import MOST_BYTES, shown_name
from tests.page_makers import Page, make_run, predict


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Page(make_run(tmp_path_factory.mktemp("runs") / "birds"))


def picture(size=(40, 30), kind="PNG", mode="RGB"):
    file = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(file, kind)
    return file.getvalue()


def bring(client, content, name="x.png"):
    return client.post("/api/uploads", params={"name": name}, content=content)


def bomb(width=60000, height=60000):
    """Return a PNG of some kilobytes that claims thousands of millions of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10**6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "L"), ("GIF", "P"), ("TIFF", "CMYK")]
)
def test_an_image_is_predicted_and_shown(page, kind, mode):
    client = page.browser()
    kept = bring(client, picture(kind=kind, mode=mode)).json()
    assert kept["size"] == [40, 30]
    said = predict(client, "birds", kept["image"])
    assert said["truth"] is None
    assert abs(sum(said["before"]["probabilities"]) - 1) < 1e-5
    shown = client.get("/api/runs/birds/picture", params={"image": kept["image"]})
    assert shown.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(shown.content)).size == (32, 32)


def test_a_hundred_megabytes_are_cut_off_and_not_read(page):
    """By what the request says of its length, and where it says nothing, by counting."""
    client, sent = page.browser(), []

    def endless():
        while len(sent) < 100:
            sent.append(1)
            yield b"x" * 2**20

    declared = client.post("/api/uploads", content=b"", headers={"content-length": str(100 * 2**20)})
    assert declared.status_code == 413
    assert declared.headers["connection"] == "close"
    answer = client.post("/api/uploads", content=endless())
    assert answer.status_code == 413
    assert "20 MB" in answer.json()["error"]
    assert len(sent) <= 100
    assert MOST_BYTES == 20 * 2**20


@pytest.mark.parametrize("length", ["-1", "1e3", "x"])
def test_a_length_that_is_none_is_refused(page, length):
    assert page.browser().post("/api/uploads", content=b"", headers={"content-length": length}).status_code == 413


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an image"),
        (b"<svg onload=alert(1)>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # would run Ghostscript
        (picture()[:200], "cannot be read"),
        (bomb(), "pixels"),
        (bomb(9000, 9000), "9000 x 9000 pixels: 64 million"),
    ],
)
def test_what_is_no_image_is_one_line(page, content, said):
    answer = bring(page.browser(), content)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_name_is_text(page):
    name = '../../etc/<img src=x onerror="alert(1)">\n\x1b[31m.png'
    kept = bring(page.browser(), picture(), name).json()
    assert kept["title"] == '<img src=x onerror="alert(1)">  [31m.png'  # as JSON; the page sets it as text alone
    assert shown_name("") == shown_name("a/") == "image"
    assert len(shown_name("x" * 999)) == 120
    assert shown_name("C:\\photos\\bird.png") == "bird.png"


def test_an_upload_belongs_to_the_browser_that_brought_it(page):
    first, second = page.browser(), page.browser()
    kept = bring(first, picture()).json()["image"]
    assert predict(first, "birds", kept)["before"]
    answer = second.post("/api/runs/birds/predict", json={"image": kept})
    assert answer.status_code == 410
    assert answer.json()["error"] == "this image is no longer in the memory of the page: bring it again"


def test_the_least_recently_used_go_first(page, monkeypatch):
    monkeypatch.setattr(uploads, "_KEPT_BY_ONE", 2)
    client = page.browser()
    kept = [bring(client, picture()).json()["image"] for _ in range(2)]
    predict(client, "birds", kept[0])  # used
    kept.append(bring(client, picture()).json()["image"])
    predict(client, "birds", kept[0])
    predict(client, "birds", kept[2])
    assert client.post("/api/runs/birds/predict", json={"image": kept[1]}).status_code == 410


def test_nothing_is_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    client = page.browser()
    predict(client, "birds", bring(client, picture((900, 900))).json()["image"])
    assert list(tmp_path.iterdir()) == []
