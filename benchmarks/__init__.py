"""Tasks from real code: where they come from, how they are made, that they hold.

A task is a row: it names a pinned source distribution and carries one small patch, no other source. Rows are made by
injecting one fault (:mod:`benchmarks.faults`) into a package whose own test suite notices it
(:mod:`benchmarks.make`), and are made concrete on any machine by :class:`benchmarks.pypi.PyPISource`.

Invariants:

* What is downloaded is pinned by hash in ``packages.toml``, whose own hash is committed; a package is train or
  held-out as a whole.
* A download is read as data: no code of a distribution runs in our environment, neither when it is fetched nor when
  a task is made.
* The same row gives the same tree, bit for bit: ``base_commit`` is the id of its only commit and is checked.
* The gold patch turns the base tree into the distribution's own text; a statement never holds it, nor the line.
* A listed test behaved the same in every one of five runs, before and after.
"""
