"""Images without a registry: ``dojo images build`` and ``dojo images list``.

As root on Debian an image is a minimal bootstrap of the distribution, imported as one layer. Elsewhere it is built from
a Dockerfile, where a registry answers. Both carry the same label: the digest of the recipe that made them, so that an
image of an older recipe is told from a current one and an image of somebody else is never taken for ours. The tool
server brings its own interpreter (see ``toolbox``), so that an image needs nothing of us: the hostile one, which is
busybox alone, works too.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict

from sandbox.engine import boundary, connect
from sandbox.protocol import SandboxError

if TYPE_CHECKING:
    import docker

FAMILY = "repodojo/base"
"""Images of a Debian release; the tag names the release."""
SUITES = ("bookworm", "bullseye", "trixie")
DEFAULT = f"{FAMILY}:{SUITES[0]}"
"""The image that tasks without one of their own run in."""
HOSTILE = "repodojo/busybox:static"
"""An image of one static binary: no libc, no Python, no bash. It keeps the toolbox honest."""
LABEL = "repodojo.image"
"""Label of our images; its value is the recipe's digest."""

PACKAGES = ("bash", "ca-certificates", "git", "procps", "python3")
USER = "dojo:x:1000:1000:dojo:/tmp:/bin/sh"
"""The unprivileged user of every sandbox; its home is the tmpfs, the root being read-only."""

Say = Callable[[str], None]


class Image(BaseModel):
    """One image of ours, as the engine holds it."""

    model_config = ConfigDict(frozen=True)

    name: str
    id: str
    recipe: str
    current: bool
    """Whether the recipe is the one that this version would build."""
    size_mb: int
    created: str


def recipe(name: str = DEFAULT) -> str:
    """Digest of what makes the image ``name``: 12 hex digits."""
    what = ["busybox-static", USER] if name == HOSTILE else [_suite(name), *PACKAGES, USER]
    return hashlib.sha256("\n".join(what).encode()).hexdigest()[:12]


def _suite(name: str) -> str:
    """The Debian release of the image ``name``: its tag, where that names one."""
    tag = name.rpartition(":")[2]
    return tag if tag in SUITES else SUITES[0]


def build(name: str = DEFAULT, say: Say = print) -> str:
    """Make the image ``name`` unless the current recipe's is there, and return its name.

    :data:`HOSTILE` asks for the busybox image, any other name gets the default recipe. Raises :class:`SandboxError`.
    """
    client = connect()
    name = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    with boundary(f"Building the image {name}"):
        if any(image.name == name and image.current for image in _ours(client)):
            say(f"image {name} is there already")
        elif name == HOSTILE:
            _import(client, name, _busybox_tree, say)
        elif blocker := _no_bootstrap():
            say(f"no bootstrap here ({blocker}): building from a Dockerfile")
            _from_dockerfile(client, name, say)
        else:
            _import(client, name, lambda root, tell: _debian_tree(root, tell, _suite(name)), say)
    return name


def usable_image(client: docker.DockerClient | None = None) -> str | None:
    """Name of an image of ours that the engine holds, the current default first; ``None`` without image or engine."""
    try:
        found = list_images(client)
    except SandboxError:
        return None
    general = [image for image in found if image.name != HOSTILE]
    general.sort(key=lambda image: (image.name == DEFAULT, image.current), reverse=True)
    return general[0].name if general else None


def unusable() -> str:
    """Why sandboxes cannot run in Docker here, in one sentence; empty when they can."""
    try:
        client = connect(10)
    except SandboxError as error:
        return str(error)
    return "" if usable_image(client) else "The Docker engine holds no image of ours: make one with: dojo images build."


def list_images(client: docker.DockerClient | None = None) -> list[Image]:
    """Our images, by name. Raises :class:`SandboxError` when no engine answers."""
    engine = client or connect(10)
    with boundary("Listing images"):
        return _ours(engine)


def _ours(client: docker.DockerClient) -> list[Image]:
    found = cast("list[dict[str, Any]]", client.api.images(filters={"label": LABEL}))
    return sorted(
        (_image(row, tag) for row in found for tag in row.get("RepoTags") or ()), key=lambda image: image.name
    )


def _image(row: dict[str, Any], tag: str) -> Image:
    from datetime import UTC, datetime

    made = datetime.fromtimestamp(row["Created"], UTC).isoformat(timespec="seconds")
    digest = row["Labels"][LABEL]
    name = tag.removeprefix("localhost/")
    return Image(
        name=name, id=row["Id"], recipe=digest, current=digest == recipe(name), size_mb=row["Size"] >> 20, created=made
    )


def _no_bootstrap() -> str | None:
    """Why the bootstrap cannot run here, or ``None`` when it can."""
    if os.getuid() != 0:
        return "not root"
    return None if shutil.which("debootstrap", path=_path()) else "debootstrap is not installed"


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _import(client: docker.DockerClient, name: str, fill: Callable[[Path, Say], None], say: Say) -> None:
    """Fill a folder and import it as one layer."""
    with tempfile.TemporaryDirectory(prefix="repodojo-image-") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        try:
            fill(root, say)
        finally:
            _unmount(root)
        _finish(root)
        say(f"importing {name}")
        with _tar_stream(root) as stream:
            answer = client.api.import_image_from_stream(stream, *name.rsplit(":", 1), changes=_changes(name))
        if "error" in str(answer):
            raise SandboxError(f"The engine refused the image {name}: {str(answer).strip()[:300]}.")


def _changes(name: str) -> list[str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return [f"LABEL {LABEL}={recipe(name)}", f"ENV PATH={path}", "ENV LANG=C.UTF-8", 'CMD ["/bin/sh"]']


@contextmanager
def _tar_stream(root: Path) -> Generator[Any]:
    # The tree holds files that a bootstrap made as root: tar keeps owners and modes, names nothing and reads once.
    with subprocess.Popen(["tar", "-C", str(root), "--numeric-owner", "-c", "."], stdout=subprocess.PIPE) as tar:
        yield tar.stdout
    if tar.returncode:
        raise SandboxError(f"tar could not read the image's tree (exit code {tar.returncode}).")


def _finish(root: Path) -> None:
    """What every image has: the user, mount points for a read-only root, no package caches."""
    for mount in ("workspace", "opt/repodojo", "opt/site", "tmp", "etc", "proc", "dev", "sys"):
        (root / mount).mkdir(parents=True, exist_ok=True)
    # A runtime gives a tmpfs the mode of the folder that it covers.
    (root / "tmp").chmod(0o1777)
    for file, line in (("passwd", USER), ("group", "dojo:x:1000:")):
        with (root / "etc" / file).open("a") as out:
            out.write(line + "\n")
    for cache in ("var/cache/apt", "var/lib/apt/lists", "var/cache/debconf"):
        shutil.rmtree(root / cache, ignore_errors=True)


def _unmount(root: Path) -> None:
    """Take away what an interrupted bootstrap left mounted, before anything below ``root`` is deleted."""
    mounted = [line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in mounted if point.startswith(f"{root}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=True)


def _debian_tree(root: Path, say: Say, suite: str) -> None:
    say(f"bootstrapping {suite} (one to two minutes)")
    include = f"--include={','.join(PACKAGES)}"
    command = ["debootstrap", "--variant=minbase", include, suite, str(root)]
    _tool([*command, *_mirror()], "debootstrap")


def _mirror() -> list[str]:
    """The mirror that this machine is configured for, so that a private one is honoured; nothing for the tool's
    default.
    """
    try:
        lines = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)"],
            capture_output=True, text=True, timeout=30, check=True,
        ).stdout.splitlines()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    fields = (line.split() for line in lines)
    return next(([uri] for uri, codename, component in fields if "-" not in codename and component == "main"), [])


def _tool(command: list[str], what: str, **options: Any) -> None:
    environ = {**os.environ, "PATH": _path(), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env=environ, **options)
    except OSError as error:
        raise SandboxError(
            f"{what} cannot be run ({error.strerror}): install it, then run: dojo images build."
        ) from error
    except subprocess.CalledProcessError as error:
        last = " ".join((error.stderr or error.stdout or "").strip().splitlines()[-2:])
        raise SandboxError(f"{what} failed with exit code {error.returncode}: {last[:300]}") from error


def _busybox_tree(root: Path, say: Say) -> None:
    """One static binary and its links."""
    with tempfile.TemporaryDirectory(prefix="repodojo-busybox-") as folder:
        # The download runs as an unprivileged user where it can: the folder has to let it in.
        Path(folder).chmod(0o755)
        _tool(["apt-get", "download", "busybox-static"], "apt-get download", cwd=folder)
        package = next(Path(folder).glob("busybox-static_*.deb"))
        _tool(["dpkg-deb", "-x", str(package), f"{folder}/out"], "dpkg-deb")
        found = next(
            path for path in Path(folder, "out").rglob("busybox") if path.is_file() and path.parent.name == "bin"
        )
        (root / "bin").mkdir()
        shutil.copy(found, root / "bin/busybox")
    for applet in ("sh", "ls", "cat", "true", "sleep", "kill", "ps", "id", "mount"):
        (root / "bin" / applet).symlink_to("busybox")


def _from_dockerfile(client: docker.DockerClient, name: str, say: Say) -> None:
    """The same contents where a registry answers: the engine's own builder fetches the distribution's image."""
    say("pulling and building (needs a registry)")
    install = f"apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"
    user = f"echo '{USER}' >> /etc/passwd && echo 'dojo:x:1000:' >> /etc/group"
    lines = [
        f"FROM debian:{_suite(name)}-slim",
        f"RUN apt-get update && {install} && rm -rf /var/lib/apt/lists/*",
        f"RUN {user} && mkdir -p /workspace /opt/repodojo /opt/site",
        "ENV LANG=C.UTF-8",
        f"LABEL {LABEL}={recipe(name)}",
    ]
    try:
        client.images.build(fileobj=io.BytesIO("\n".join(lines).encode()), tag=name, rm=True, forcerm=True)
    except Exception as error:
        way = "run it as root on Debian with debootstrap installed, or give it a registry"
        raise SandboxError(
            f"The image {name} could not be built from a Dockerfile ({str(error)[:200]}): {way}."
        ) from error
