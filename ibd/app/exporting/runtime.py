"""Finding onnxruntime-web (MIT, Microsoft Corporation), which runs a model in a browser: it is no part of this."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ibd.errors import ConfigError, UnsupportedError

NAME = "onnxruntime-web"
SCRIPT, MODULE, CODE = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
_SECONDS = 180
_MIT = """MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


@dataclass(frozen=True)
class WebRuntime:
    """What a page needs of onnxruntime-web.

    Attributes:
        version: version of the package.
        licence: text of its licence.
        script: the library, for one thread or several, without WebGPU.
        module: what loads the code.
        code: the code, WebAssembly.
    """

    version: str
    licence: str
    script: bytes
    module: bytes
    code: bytes


def find_runtime(path: Path | None) -> WebRuntime:
    """Return onnxruntime-web from a folder or a .tgz; without one, as npm fetches it.

    Raises:
        ConfigError: it is not there.
        UnsupportedError: none is given, and npm is not installed or fetches none.
    """
    if path is None:
        return _fetched()
    if path.is_dir():
        inside = path / "node_modules" / NAME
        return _read(path, (inside if inside.is_dir() else path).joinpath)
    try:
        return _unpacked(path)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"--runtime: '{path}' is neither a folder nor a .tgz of {NAME} ({error})") from None


def _fetched() -> WebRuntime:
    how = f"get it by `npm pack {NAME}`, and name it: --runtime {NAME}-VERSION.tgz"
    npm = shutil.which("npm")
    if npm is None:
        raise UnsupportedError(f"a page runs the model by {NAME}, which is no part of ibd, and there is no npm: {how}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(  # noqa: S603  # npm itself, with words of ours alone
                [npm, "pack", NAME, "--silent"], cwd=folder, check=True, capture_output=True, timeout=_SECONDS
            )
            return _unpacked(next(Path(folder).glob("*.tgz")))
        except (subprocess.SubprocessError, OSError, StopIteration, tarfile.TarError):
            raise UnsupportedError(
                f"a page runs the model by {NAME}, which is no part of ibd, and npm could not fetch it: {how}"
            ) from None


def _unpacked(path: Path) -> WebRuntime:
    """Return what is in a package of npm; nothing of it is written."""
    with tarfile.open(path) as archive:

        def part(*names: str) -> _Packed:
            return _Packed(archive, "/".join(("package", *names)))

        return _read(path, part)


@dataclass(frozen=True)
class _Packed:
    """A file in an archive, to be read as a `Path` is."""

    archive: tarfile.TarFile
    name: str

    def read_bytes(self) -> bytes:
        try:
            file = self.archive.extractfile(self.name)
        except KeyError:
            file = None
        if file is None:
            raise FileNotFoundError(self.name)
        return file.read()


def _read(path: Path, part: Callable[..., Path | _Packed]) -> WebRuntime:
    """Return the parts of a package.

    Raises:
        ConfigError: one is missing.
    """
    try:
        about = json.loads(part("package.json").read_bytes())
        if about.get("name") != NAME:
            raise ConfigError(f"--runtime: '{path}' is the package '{about.get('name')}', {NAME} is needed")
        script, module, code = (part("dist", name).read_bytes() for name in (SCRIPT, MODULE, CODE))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--runtime: '{path}' is no {NAME}: {error} is missing") from None
    try:
        licence = part("LICENSE").read_bytes().decode()
    except OSError:
        licence = _MIT if about.get("license") == "MIT" else f"{NAME}: {about.get('license')}\n"
    return WebRuntime(str(about.get("version")), licence, script, module, code)
