"""Grading: what a patch is worth, by tests that the agent never saw, run where it never was.

The recipe. The patch is applied outside of any sandbox, in memory, to the base tree (never by git: what an agent left
in ``.git`` is not read). What configures the test runner is refused, what belongs to the tests is dropped, the task's
own tests and configuration are laid over the result, and a fresh sandbox without network is opened on it. There pytest
runs under a recorder that lies outside the tree; its results are structured and carry a nonce; canaries show whether
the runner still tells failure from success.

Invariants. The gold patch grades 1 and the empty one 0. What fails around the tests (sandbox, recorder) is ``INFRA``
and never a grade of the patch. A test counts only when it was collected, ran and passed: missing, skipped and errored
ones fail.

* ``tree``, ``diff``, ``patch``, ``gitformat``: trees as values, the patch between two, and its application.
* ``paths``, ``flags``: what a patch may touch, and what is suspicious about it.
* ``command``, ``plugin``: the run of the tests as plain data, and what runs inside.
* ``logs``: results of a test program that is not pytest, read from what it printed; such a grade is marked.
* ``graded``, ``scratch``, ``grade``, ``shadow``: the tree that is graded, its folder, the recipe, its vectors.
"""

from sandbox.grading.diff import diff as diff
from sandbox.grading.grade import GradeCache as GradeCache
from sandbox.grading.grade import grade as grade
from sandbox.grading.grade import survey as survey
from sandbox.grading.patch import PatchError as PatchError
from sandbox.grading.patch import apply as apply
