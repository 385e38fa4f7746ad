# SPDX-License-Identifier: MIT
"""What the hostile programs share: attempts whose result is printed."""
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
_X86 = {"ptrace": 101, "mount": 165, "umount2": 166, "chroot": 161, "pivot_root": 155, "unshare": 272, "setns": 308,
        "name_to_handle_at": 303, "open_by_handle_at": 304, "process_vm_readv": 310, "add_key": 248, "keyctl": 250, "bpf": 321,
        "userfaultfd": 323, "perf_event_open": 298, "kcmp": 312, "settimeofday": 164, "clone": 56, "syslog": 103}
_ARM = {"ptrace": 117, "mount": 40, "umount2": 39, "chroot": 51, "pivot_root": 41, "unshare": 97, "setns": 268,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "process_vm_readv": 270, "add_key": 217, "keyctl": 219, "bpf": 280,
        "userfaultfd": 282, "perf_event_open": 241, "kcmp": 272, "settimeofday": 170, "clone": 220, "syslog": 116}
NUMBER = {"pidfd_open": 434, "pidfd_getfd": 438, "clone3": 435, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429,
          "fsopen": 430, "mount_setattr": 442, **(_X86 if os.uname().machine == "x86_64" else _ARM)}


def syscall(name, *args):
    r = libc.syscall(ctypes.c_long(NUMBER[name]), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if r < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r


def attempt(what, fn, *args):
    """Prints DONE, or why not; returns what fn returned."""
    try:
        r = fn(*args)
    except OSError as e:
        print(f"{what}: {errno.errorcode.get(e.errno, e)}", flush=True)
        return None
    except ValueError as e:
        print(f"{what}: {e}", flush=True)
        return None
    print(f"{what}: DONE", flush=True)
    return r


def open_for_writing(path):
    """Opens only: a box that fails must not hurt the host."""
    os.close(os.open(path, os.O_WRONLY))
