"""End of a process after SIGTERM: within seconds, with code 143, whatever it waits for."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

GRACE = 8.0  # seconds from SIGTERM to the exit of the process, at most
TERMINATED = 128 + signal.SIGTERM  # exit code
LATE = b"srsoup: error: terminated: what was finished is kept, and the same command goes on from there\n"


class Termination(L.Callback):
    """Ends all processes of a run after SIGTERM to one of them.

    The handler of Lightning waits for the other processes of the run, which may wait for this one. So this callback
    puts another one in its place. It raises in the main thread, wherever Python runs, as Ctrl-C does. A thread passes
    the signal on to the other processes on this machine. It ends this process after `GRACE` seconds, where it still
    waits: for a judge, for another process, or for threads that a judge has left. Under a SLURM that requeues, the
    handler of Lightning stays, because SIGTERM does not end such a run.
    """

    _handler_of_run: SigtermHandler | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the signal, where this is the main thread of the process."""
        requeues = getattr(getattr(trainer.strategy, "cluster_environment", None), "auto_requeue", False)
        if requeues or threading.current_thread() is not threading.main_thread():
            return
        self._handler_of_run = SigtermHandler(_others(), lambda: _forget_children(trainer))

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal again, because Lightning has put its own handler in place."""
        self._take()

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise."""
        self._take()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise."""
        self._take()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leave the signal to others.

        Raises:
            SIGTERMException: The run was terminated, and the error is only what came of it, such as a lost connection.
        """
        terminated = self._handler_of_run is not None and self._handler_of_run.received.is_set()
        self._leave()
        if terminated and not isinstance(exception, SIGTERMException):
            raise SIGTERMException(TERMINATED) from exception

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Leave the signal to others."""
        self._leave()

    def _take(self) -> None:
        if self._handler_of_run is not None:
            self._handler_of_run.take()

    def _leave(self) -> None:
        if self._handler_of_run is not None:
            self._handler_of_run.close()
            self._handler_of_run = None


class SigtermHandler:
    """Handler of SIGTERM in the main thread, and a thread that sees the signal where the main thread can't.

    Args:
        others: Process ids that get the signal too.
        before_others: Called in the thread before they do.

    Attributes:
        received: Set once the signal has come.
    """

    def __init__(self, others: Sequence[int], before_others: Callable[[], None]) -> None:
        self.received = threading.Event()
        self._others, self._before_others, self._closed = others, before_others, False
        self._handler = signal.getsignal(signal.SIGTERM)
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        self.take()

    def take(self) -> None:
        """Handle the signal from now on."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def close(self) -> None:
        """Leave the signal to the handler that was there before."""
        self._closed = True
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._writer)
        signal.signal(signal.SIGTERM, self._handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise in the main thread, once.

        Lightning puts back the handlers that it found. So this one may still be called when it is closed.
        """
        if self._closed:
            signal.signal(signal.SIGTERM, self._handler)
            os.kill(os.getpid(), signal.SIGTERM)
        elif not self.received.is_set():
            self.received.set()
            raise SIGTERMException(TERMINATED)

    def _watch(self, reader: int) -> None:
        """Wait for the signal, whose number Python writes where it arrives, also while the main thread runs C code."""
        with open(reader, "rb", buffering=0) as signals:
            while numbers := signals.read(64):
                if self._wakeup != -1:
                    with suppress(OSError):  # nobody has read it for long
                        os.write(self._wakeup, numbers)
                if signal.SIGTERM in numbers:
                    break
            else:  # closed
                return
        self._before_others()
        for process in self._others:
            with suppress(OSError):  # it has ended
                os.kill(process, signal.SIGTERM)
        time.sleep(GRACE)
        os.write(2, LATE)
        os._exit(TERMINATED)


def _others() -> list[int]:
    """Process ids of the run's other processes on this machine."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return []
    place = socket.gethostname()
    with suppress(OSError):  # containers may share a host's name; where the system can't tell, the name decides
        place += os.readlink("/proc/self/ns/pid")
    everyone: list[tuple[str, int]] = [("", 0)] * distributed.get_world_size()
    distributed.all_gather_object(everyone, (place, os.getpid()))
    return [process for where, process in everyone if where == place and process != os.getpid()]


def _forget_children(trainer: L.Trainer) -> None:
    """Let Lightning not watch its child processes, because it kills this one as soon as it sees that one has ended."""
    launcher = trainer.strategy.launcher
    if launcher is not None:
        getattr(launcher, "procs", []).clear()
