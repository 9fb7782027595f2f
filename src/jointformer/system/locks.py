"""Locks on files that the operating system takes back when their process dies, however it dies."""

from __future__ import annotations

import errno
import inspect
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jointformer.errors import OutputError

#: What systems say where there are no locks: Lustre without -o flock, NFS without its lock service.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
#: Newer versions of filelock would put up a mere file instead, which nobody takes away from a process that was killed.
_REAL_LOCKS: dict[str, Any] = {
    name: False for name in inspect.signature(FileLock.__init__).parameters if name == "fallback_to_soft"
}


class NoLocksError(OutputError):
    """A file that cannot be locked, because its file system has no locks."""


def hold(path: Path, timeout: float = 0.0) -> FileLock | None:
    """Return the lock of a file, held until its `release`; None where somebody else keeps it for `timeout` seconds.

    Another thread may release it. Raises NoLocksError, and OSError where the file cannot be opened.
    """
    lock = FileLock(path, thread_local=False, **_REAL_LOCKS)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return None
    except (NotImplementedError, OSError) as error:  # older versions of filelock say the former
        if isinstance(error, NotImplementedError) or error.errno in _NO_LOCKS:
            hint = "choose another folder, or mount this one with locks"
            raise NoLocksError("this file system has no file locks", where=path.parent, hint=hint) from None
        raise
    return lock
