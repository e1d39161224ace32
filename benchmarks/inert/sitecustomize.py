"""Stands in for every build backend while a source distribution is downloaded.

pip asks an sdist's build backend for metadata even when it only downloads. This module, put on the import path of pip's
child process, answers with the metadata that the distribution carries already (``PKG-INFO``). So no code of a
downloaded package runs, no backend is installed, and a download costs milliseconds instead of seconds.
Standard library only.
"""

# Runs in an interpreter of its own, like the scripts that it serves: checked by rule, not by annotation.
# pyright: basic, reportAttributeAccessIssue=false

import email.parser
import importlib.abc
import importlib.machinery
import os
import pathlib
import re
import sys

# The variable that pip names the backend in: of now, and of the pip that Python 3.12 brings.
NAMES = ("_PYPROJECT_HOOKS_BUILD_BACKEND", "PEP517_BUILD_BACKEND")
BACKEND, _, INSIDE = next((os.environ[name] for name in NAMES if name in os.environ), "").partition(":")


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    """The hook of PEP 517; the current folder is the unpacked distribution."""
    carried = pathlib.Path("PKG-INFO").read_bytes()
    info = email.parser.BytesHeaderParser().parsebytes(carried)
    # An older pip reads name and version from the folder's name.
    name = f"{re.sub('[-_.]+', '_', info['Name'])}-{info['Version'].replace('-', '_')}.dist-info"
    target = pathlib.Path(directory, name)
    target.mkdir()
    (target / "METADATA").write_bytes(carried)
    (target / "WHEEL").write_text("Wheel-Version: 1.0\n", encoding="ascii")
    return name


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
        for name in INSIDE.split("."):
            setattr(module, name, module)


if BACKEND:
    sys.meta_path.insert(0, Finder())
