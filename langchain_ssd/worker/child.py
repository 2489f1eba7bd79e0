"""Starting and ending the worker program, the operating system's part of it.

``subprocess`` and not ``multiprocessing``: that pickles what it sends and re-imports ``__main__``, which
breaks in notebooks and in scripts without a main guard.  A plain program with two pipes needs neither, and
is started alike on every platform.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from ..errors import Cancelled, SSDError

LOG_VARIABLE = "LANGCHAIN_SSD_WORKER_LOG"
# glibc gives large freed blocks back to the system at once; rows of 50,000 floats come and go at every
# step, and the page faults cost more than the arithmetic. Other systems ignore these names.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20)}
PATIENCE = 2.0  # seconds a worker gets for each of: closing politely, terminating, being reaped

Process = subprocess.Popen[bytes]


def worker_command(engine: str) -> list[str]:
    """How to start the worker program. ``-P`` keeps the working folder's files from posing as modules."""
    return [sys.executable, "-P", "-m", "langchain_ssd.worker.process", "--engine", engine]


def spawn(command: list[str]) -> Process:
    """Start the program with a pipe in and a pipe out; its messages go to the log file, if one is set.

    Raises:
        OSError: it cannot be started, or the log cannot be opened.
    """
    log = os.environ.get(LOG_VARIABLE)
    if not log:
        return _popen(command, subprocess.DEVNULL)
    with open(log, "ab", buffering=0) as file:
        return _popen(command, file.fileno())


def _popen(command: list[str], errors: int) -> Process:
    # The worker finds modules where this process does, also in notebooks that changed sys.path.
    path = os.pathsep.join(str(entry) or os.getcwd() for entry in sys.path)
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(  # noqa: S603 - our own interpreter runs our own module, without a shell
        command,
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**MALLOC, **os.environ, "PYTHONPATH": path},
        start_new_session=sys.platform != "win32",  # Ctrl-C is for this process, which then ends the worker
        creationflags=flags,
    )


def end(process: Process, error: SSDError | None) -> None:
    """End a process: one that is ending by itself may finish, one that hangs is not asked."""
    if error is None:
        wait(process)
    elif isinstance(error, Cancelled):
        process.terminate()
        wait(process)
    if process.poll() is None:
        process.kill()
        wait(process)


def wait(process: Process) -> None:
    """Give a process a moment to end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)


def close_pipes(process: Process) -> None:
    """Close this process's ends."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def describe_exit(code: int | None) -> str:
    """An exit status in words."""
    if code is None:
        return "it does not end"
    if code >= 0:
        return f"exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")
