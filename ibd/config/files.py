"""Where config files lie: where the user says, or among those that come with the package."""

from __future__ import annotations

from pathlib import Path

from ibd.errors import ConfigError


def shipped() -> Path:
    """Return the folder of the configs that come with the package: in it once installed, beside it in a clone.

    Raises:
        ConfigError: there is none.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "toybirds").is_dir():
            return folder
    raise ConfigError("the configs that belong to ibd are not installed with it: reinstall it")


def shipped_names() -> list[str]:
    """Return the configs that come with the package and can be trained: ``toybirds/tiny`` and the like."""
    folder = shipped()
    files = [path for path in sorted(folder.glob("*/*.yaml")) if not path.stem.endswith("base")]
    return [path.relative_to(folder).with_suffix("").as_posix() for path in files]


def find_config(path: Path) -> Path:
    """Return the file that is meant: the user's own, else that of the package.

    ``toybirds/tiny``, ``toybirds/tiny.yaml`` and ``configs/toybirds/tiny.yaml`` all name one of the package's.

    Args:
        path: as the user wrote it.

    Returns:
        An existing file where there is one, else `path`.
    """
    return path if path.exists() and not path.is_dir() else shipped_config(path) or path


def shipped_config(path: Path) -> Path | None:
    """Return the file of the package's that a relative path names; None where it names none."""
    if path.is_absolute() or ".." in path.parts:
        return None
    below = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    if not below.parts:
        return None
    for name in (below, below.with_name(f"{below.name}.yaml")):
        if (file := shipped() / name).is_file():
            return file
    return None
