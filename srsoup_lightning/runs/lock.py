"""Lock of a run directory: one run at a time works in it."""

from __future__ import annotations

from filelock import FileLock, Timeout

from srsoup_lightning.runs.directory import RunDirectory


class RunLock:
    """Lock of the process that runs in a directory. It ends with the process at the latest."""

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def acquire(self, run: RunDirectory) -> None:
        """Make the directory, and lock it.

        Raises:
            FileExistsError: Another process is running in it.
        """
        run.root.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(run.lock)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(
                f"another process is running in {run.root}: wait for it, or give another --trainer.default_root_dir"
            ) from None

    def release(self) -> None:
        """Release the directory, if it is locked."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
