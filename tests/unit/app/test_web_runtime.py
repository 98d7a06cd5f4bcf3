"""Finding onnxruntime-web in what a person names."""

import io
import json
import tarfile

import pytest

from ibd.app.exporting import runtime
from ibd.app.exporting.page import write_page
from ibd.app.exporting.runtime import CODE, MODULE, NAME, SCRIPT, find_runtime
from ibd.errors import ConfigError, UnsupportedError

FILES = {
    "package.json": json.dumps({"name": NAME, "version": "1.2.3", "license": "MIT"}),
    f"dist/{SCRIPT}": "script",
    f"dist/{MODULE}": "module",
    f"dist/{CODE}": "code",
}


def lay_out(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def packed(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


@pytest.mark.parametrize("kind", ["folder", "project", "archive"])
def test_it_is_found(kind, tmp_path):
    if kind == "archive":
        path = packed(tmp_path / "x.tgz", FILES)
    else:
        path = tmp_path
        lay_out(path if kind == "folder" else path / "node_modules" / NAME, FILES)
    found = find_runtime(path)
    assert (found.version, found.script, found.module, found.code) == ("1.2.3", b"script", b"module", b"code")
    assert found.licence.startswith("MIT License\n\nCopyright (c) Microsoft Corporation")


def test_its_own_licence_is_taken(tmp_path):
    assert find_runtime(lay_out(tmp_path, {**FILES, "LICENSE": "theirs"})).licence == "theirs"


def test_what_is_something_else(tmp_path):
    with pytest.raises(ConfigError, match=rf"^--runtime: .* is no {NAME}: .*package\.json.* is missing$"):
        find_runtime(tmp_path)
    other = {**FILES, "package.json": json.dumps({"name": "left-pad"})}
    with pytest.raises(ConfigError, match=rf"is the package 'left-pad', {NAME} is needed$"):
        find_runtime(packed(tmp_path / "x.tgz", other))
    without = {name: content for name, content in FILES.items() if CODE not in name}
    with pytest.raises(ConfigError, match=rf"{CODE} is missing$"):
        find_runtime(packed(tmp_path / "y.tgz", without))
    (tmp_path / "z.tgz").write_text("nothing")
    for path in ("z.tgz", "none.tgz"):
        with pytest.raises(ConfigError, match=r"^--runtime: .* is neither a folder nor a \.tgz"):
            find_runtime(tmp_path / path)


def test_a_page_without_one_leaves_no_folder(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ConfigError, match=r"^--runtime: "):
        list(write_page("run", tmp_path / "page", runtime=tmp_path / "none.tgz"))
    assert not (tmp_path / "page").exists()


def test_without_npm(monkeypatch):
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(
        UnsupportedError, match=rf"there is no npm: get it by `npm pack {NAME}`, and name it: --runtime"
    ):
        find_runtime(None)
