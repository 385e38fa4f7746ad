# SPDX-License-Identifier: MIT
"""Runs one program under a time limit, with bounded output files and nothing left of its session."""

import contextlib
import os
import resource
import select
import signal
import stat
import subprocess

FILE_MAX = 1 << 20  # of each file that the program writes


def _limits():
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MAX, FILE_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(argv, folder, stdin, seconds, env=None):
    """Runs `argv` in `folder` with the text `stdin`, to the files stdout and stderr there.

    Gives its exit status, negative for a signal, or None when it took longer than `seconds`.
    """
    path = {name: os.path.join(folder, name) for name in ("stdin", "stdout", "stderr")}
    with open(path["stdin"], "w", encoding="utf-8") as f:
        f.write(stdin)
    base = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with open(path["stdin"], "rb") as i, open(path["stdout"], "wb") as o, open(path["stderr"], "wb") as e:
        child = subprocess.Popen(argv, cwd=folder, stdin=i, stdout=o, stderr=e, start_new_session=True,
                                 preexec_fn=_limits,
                                 env={**base, "HOME": folder, "TMPDIR": folder, **(env or {})})
    ended = os.pidfd_open(child.pid)
    try:
        in_time = bool(select.select([ended], [], [], seconds)[0])
    finally:
        # Before it is waited for, so that its number still means its session.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        os.close(ended)
        status = child.wait()
    return status if in_time else None


def read_file(path, most=FILE_MAX):
    """The bytes of a file that foreign code had its hands on, or None if it is not a plain, small one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(fd, "rb") as f:
        st = os.fstat(fd)
        return f.read(most) if stat.S_ISREG(st.st_mode) and st.st_size <= most else None


def ending(status, seconds):
    """How a program that failed ended, for people."""
    if status is None:
        return f"took longer than {seconds:g} s"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}"
        return f"was ended by signal {-status}"
    return f"ended with exit status {status}"


def shown(text, most=200):
    """Foreign text, fit for a sentence: what does not print is escaped, and it is cut."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:most])[:most]


def last_line(folder):
    """The last line of what the program said on stderr."""
    text = (read_file(os.path.join(folder, "stderr")) or b"").decode("utf-8", "replace").strip()
    return shown(text.rpartition("\n")[2])
