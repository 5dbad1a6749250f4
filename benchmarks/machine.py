"""What a benchmark ran on, and how much memory a process of its own took."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import torch


def describe() -> str:
    """Processor, threads and torch, for a row of results."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    return f"{processor}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def peak_memory(function: str, *arguments: object) -> float:
    """Megabytes that a process which calls ``package.module.function(*arguments)`` held at most; on Linux."""
    module, _, name = function.rpartition(".")
    call = f"from {module} import {name}; {name}(*{arguments!r})"
    # Not getrusage: its peak is the parent's where that was higher.
    tell = "from pathlib import Path; print(Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", f"{call}; {tell}"], check=True, capture_output=True, text=True)
    status = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    return int(status["VmHWM"].split()[0]) / 1024
