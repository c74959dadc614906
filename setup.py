"""Puts the files that lie at the top of a checkout, for people to find, into the wheel. All else: pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("studies", "prompts", "workspace.yaml")
TARGET = Path("lwf_assets", "shipped")
"""Where `lwf_assets.shipped` looks for them."""


class BuildWithShippedFiles(build_py):  # type: ignore[misc]
    """As usual, then the shipped files. An editable install has the checkout and needs none."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                target = Path(self.build_lib) / TARGET / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if Path(name).is_dir():
                    shutil.copytree(name, target, dirs_exist_ok=True)
                else:
                    shutil.copyfile(name, target)


setup(cmdclass={"build_py": BuildWithShippedFiles})
