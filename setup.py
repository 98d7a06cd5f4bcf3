"""Puts ``configs/``, whose one copy lies beside the package, into wheels; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the configs beside the modules."""

    def run(self) -> None:
        """Build; an editable installation reads the clone's own configs."""
        super().run()
        if not self.editable_mode:
            shutil.copytree("configs", Path(self.build_lib) / "ibd" / "configs", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
