"""A run that is killed again and again at random moments, and then continued: ``python -m tests.kills ROOT KILLS``.

It is a process of its own that has imported everything and forks the victims, so that a kill takes a moment and not the
seconds that a start takes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.processes import make_all


def seeds_for(kills: int) -> int:
    """Enough that most kills meet a run under way."""
    return 3 * kills // 2


def main(root: Path, kills: int) -> None:
    moments = random.Random(0)
    for _ in range(kills):
        victim = os.fork()
        if victim == 0:
            make_all(root, seeds_for(kills))
            os._exit(0)
        time.sleep(moments.uniform(0.05, 0.6))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    make_all(root, seeds_for(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
