"""Serves httpbin on the loopback of a sandbox, for tests that ask ``HTTPBIN_URL`` and else the internet.

A plugin of pytest (``-p httpbin_here``) that lies in the site folder of a task; it needs ``pytest-httpbin``.
"""

import os

from httpbin import app  # pyright: ignore[reportMissingImports]
from pytest_httpbin.serve import Server  # pyright: ignore[reportMissingImports]

server = Server(application=app)
server.start()
os.environ["HTTPBIN_URL"] = server.url + "/"
