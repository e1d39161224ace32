"""Where code runs that is not ours, and what grading says about it. Knows no model.

Design. A *backend* (docker, local, memory) opens *sandboxes*; one tool server process lives in each and speaks frames
over standard streams, so that backends differ only in how that process is started (:mod:`sandbox.protocol`,
:mod:`sandbox.server`, :mod:`sandbox.remote`). The server brings its own interpreter and packages, a read-only *toolbox*
(:mod:`sandbox.toolbox`), and needs nothing of the image. Modules named in :data:`sandbox.toolbox.INSIDE` run inside and
use the standard library only.

Invariants.

* A sandbox works on a private copy: neither the task's tree nor its site-packages are ever written.
* Code of a task never runs in our environment, has no network, and sees no file of the host but the system's programs
  and libraries.
* A command that ends badly is a result. :class:`~sandbox.protocol.SandboxError` means that the sandbox itself failed,
  never that the policy did.
* What a backend cannot confine it refuses to run; protections are probed, not assumed.
* When a sandbox closes, or the process that opened it dies, nothing of it is left.
"""
