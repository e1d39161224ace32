"""Stands in for every build backend while a source distribution is downloaded.

pip asks an sdist's build backend for metadata even when it only downloads. This module, put on the import path of pip's
child process, answers with the metadata that the distribution carries already (``PKG-INFO``). So no code of a
downloaded package runs, no backend is installed, and a download costs milliseconds instead of seconds.
Standard library only.
"""

# Runs in an interpreter of its own, like the scripts that it serves: checked by rule, not by annotation.
# pyright: basic, reportAttributeAccessIssue=false

import importlib.abc
import importlib.machinery
import os
import pathlib
import sys

BACKEND = os.environ.get("_PYPROJECT_HOOKS_BUILD_BACKEND", "").partition(":")[0]
INFO = "inert.dist-info"


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    """The hook of PEP 517; the current folder is the unpacked distribution."""
    target = pathlib.Path(directory, INFO)
    target.mkdir()
    (target / "METADATA").write_bytes(pathlib.Path("PKG-INFO").read_bytes())
    (target / "WHEEL").write_text("Wheel-Version: 1.0\n", encoding="ascii")
    return INFO


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the backend's module, and each package above it, here."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == BACKEND or BACKEND.startswith(fullname + "."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        module.prepare_metadata_for_build_wheel = prepare_metadata_for_build_wheel
        # Some projects name an object inside the module: "setuptools.build_meta:__legacy__".
        module.__legacy__ = module


if BACKEND:
    sys.meta_path.insert(0, Finder())
