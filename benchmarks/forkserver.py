"""Runs test sessions in forked children of one process that has pytest imported: validation at a fraction of the cost.

Standard library and the task's pytest only; it runs in the tasks' interpreter, never in ours:
``python -P -s -S forkserver.py PLUGIN SITE``. Requests and answers are JSON, one a line::

    {"job": PATH, "cwd": PATH, "seconds": 20, "trace": ROOT or null, "bytecode": false}  ->  {"code": 0, "late": false}

A child runs grading's own recorder (``PLUGIN``) on the job file, in a session of its own, under limits of memory and
CPU, and with a random state of its own; what it leaves behind is killed. With ``trace`` it also writes ``JOB.trace``:
for each test the functions below that folder which ran during its call.
"""

# Runs in an interpreter of its own, like the scripts that it serves: checked by rule, not by annotation.
# pyright: basic, reportAttributeAccessIssue=false

import contextlib
import json
import os
import pathlib
import random
import resource
import select
import signal
import sys
import traceback
import types

MEMORY = 2 << 30
"""Address space of one child, in bytes."""
TOOL = 3
"""The monitoring slot that tracing takes."""


def main(plugin, site):
    """Answer requests until the input ends."""
    sys.path.append(site)
    import doctest  # noqa: F401
    import unittest.mock  # noqa: F401

    import pytest  # noqa: F401

    code = compile(pathlib.Path(plugin).read_text(encoding="utf-8"), plugin, "exec")
    sys.path.remove(site)
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.write(json.dumps(serve(code, request)) + "\n")
        sys.stdout.flush()


def serve(code, request):
    """One request: fork, wait, kill what is left."""
    child = os.fork()
    if child == 0:
        try:
            run(code, request)
        except BaseException:
            pathlib.Path(request["job"] + ".error").write_text(traceback.format_exc(), encoding="utf-8")
        os._exit(70)
    handle = os.pidfd_open(child)
    late = not select.select([handle], [], [], request["seconds"])[0]
    os.close(handle)
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "late": late}


def run(code, request):
    """The child: never returns."""
    os.setsid()
    os.chdir(request["cwd"])
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    seconds = int(request["seconds"]) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    random.seed()
    sys.dont_write_bytecode = not request["bytecode"]
    if request["trace"]:
        trace(request["job"], request["trace"])
    space = {"__name__": "recorder", "__file__": code.co_filename}
    exec(code, space)
    space["main"](pathlib.Path(request["job"]))


def trace(job, root):
    """Put a plugin into the job that notes which functions below ``root`` ran in each test."""
    file = pathlib.Path(job)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["args"] = ["-p", "repodojo_trace", *content["args"]]
    file.write_text(json.dumps(content), encoding="utf-8")
    sys.modules["repodojo_trace"] = tracer(pathlib.Path(f"{job}.trace"), root)


def tracer(path, root):
    """The plugin, as a module: :mod:`sys.monitoring` reports each function once between two restarts."""
    import pytest

    watch, ran, hits = sys.monitoring, set(), {}

    def started(code, offset):
        if code.co_filename.startswith(root):
            ran.add((code.co_filename[len(root) :].lstrip("/"), code.co_qualname))
        return watch.DISABLE

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(item):
        ran.clear()
        watch.restart_events()
        try:
            return (yield)
        finally:
            hits[item.nodeid] = sorted(ran)

    def pytest_sessionfinish(session):
        path.write_text(json.dumps(hits), encoding="utf-8")

    watch.use_tool_id(TOOL, "repodojo")
    watch.register_callback(TOOL, watch.events.PY_START, started)
    watch.set_events(TOOL, watch.events.PY_START)
    module = types.ModuleType("repodojo_trace", "PYTEST_DONT_REWRITE: made here, not loaded from a file.")
    module.pytest_runtest_call, module.pytest_sessionfinish = pytest_runtest_call, pytest_sessionfinish
    return module


if __name__ == "__main__":
    main(*sys.argv[1:])
