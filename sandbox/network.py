"""What a sandbox may reach: nothing, or listed hosts through a proxy of ours.

A sandbox never has a network. With a list it has one thing more: a socket to a proxy on the host (:mod:`sandbox.gate`)
that opens connections to what is listed and refuses the rest in one line. Names are matched before they are looked up,
so that a name that is not listed leaves no trace in any name server. Pure.
"""

from __future__ import annotations

import ipaddress
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, field_validator

WEB = (80, 443)
"""Ports of an entry that names none."""
PORT = 3128
"""Where the proxy is found inside a sandbox, on its own 127.0.0.1."""


class Rule(NamedTuple):
    """One entry of a list."""

    host: str
    """A name, ``*.`` and a name for what lies below it, an address, or a range of addresses."""
    ports: tuple[int, ...]

    def permits(self, host: str, port: int) -> bool:
        if port not in self.ports:
            return False
        name = host.lower().rstrip(".")
        if self.host.startswith("*."):
            return name.endswith(self.host[1:]) and len(name) > len(self.host) - 1
        if (address := _address(name)) is not None:
            return (span := _span(self.host)) is not None and address in span
        return name == self.host


class Allow(BaseModel):
    """Hosts that a sandbox may reach over HTTP and TLS, everything else being refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: tuple[str, ...]
    """Entries as ``pypi.org``, ``*.pythonhosted.org:443``, ``10.1.0.0/16:8080`` or ``[fd00::1]:80``; without a port,
    80 and 443."""

    @field_validator("allow")
    @classmethod
    def _each_is_an_entry(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        if not entries:
            raise ValueError('an empty list allows nothing: say network = "none"')
        for entry in entries:
            parse(entry)
        return entries

    def permits(self, host: str, port: int) -> bool:
        """Whether a connection to ``host`` may be made."""
        return any(parse(entry).permits(host, port) for entry in self.allow)


Network = Literal["none"] | Allow


def parse(entry: str) -> Rule:
    """The rule that an entry stands for. Raises ``ValueError`` with one sentence."""
    text = entry.strip().lower()
    if text.startswith("[") and "]" in text:
        host, _, tail = text[1:].partition("]")
        port = tail.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    name = host.removeprefix("*.")
    known = _span(host) is not None or (name and all(part.replace("-", "a").isalnum() for part in name.split(".")))
    if not known or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{entry!r} is no host, address or range with an optional port, as in pypi.org:443")
    return Rule(host, (int(port),) if port else WEB)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _span(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
