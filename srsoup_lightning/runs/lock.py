"""Lock and lease of a run directory: one run at a time works in it, and none writes when another has begun.

::

    <root>/.lock         locked by the first process of the run, until it ends
    <root>/.lease        token of the run that began last, which all of its processes know
    <root>/.lease.lock   locked while a process writes, or while the token changes

The lock ends with the first process. The other processes of the run may outlive it, after ``kill -9``. So each of them
looks at the lease before it writes, and stops when the token is another one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import make_folder, write_atomically

POLL = 0.005  # seconds between two tries to get the lock of the lease


class RunLock:
    """Lock of the process that runs in a directory. It ends with the process at the latest."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def acquire(self, run: RunDirectory) -> str:
        """Make the directory, lock it, and take the lease from the processes of earlier runs.

        Returns:
            The token of the lease.

        Raises:
            FileExistsError: Another process is running in it.
        """
        make_folder(run.root)
        self._lock = FileLock(run.lock)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(
                f"another process is running in {run.root}: wait for it, or give another --trainer.default_root_dir"
            ) from None
        token = secrets.token_hex(16)
        with _writing(run):
            write_atomically(run.lease, token.encode())
        return token

    def release(self) -> None:
        """Release the directory, if it is locked."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class Lease:
    """Right of a run to write to its directory, for any of its processes.

    Args:
        run: Directory.
        token: Token from :meth:`RunLock.acquire`.
    """

    def __init__(self, run: RunDirectory, token: str) -> None:
        self.run, self.token = run, token

    def require(self) -> None:
        """Check that no other run has begun in the directory.

        Raises:
            FileExistsError: One has.
            FileNotFoundError: The directory is gone.
        """
        try:
            held = self.run.lease.read_bytes() == self.token.encode()
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.run.root} was removed while the run was working in it: its soups are lost, make them again"
            ) from None
        if not held:
            raise FileExistsError(
                f"another run has begun in {self.run.root}, because the first process of this one was gone: this "
                "process stops. What it had finished before is kept if the other run goes on with it"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Let no other run begin, and no other process write, while the block writes to the directory.

        Raises:
            FileExistsError: Another run has begun.
            FileNotFoundError: The directory is gone.
        """
        self.require()
        with _writing(self.run):
            self.require()
            yield


def _writing(run: RunDirectory) -> FileLock:
    return FileLock(run.lease.with_name(f"{run.lease.name}.lock"), poll_interval=POLL)
