"""Memory of judging pictures of strangers: ``python -m benchmarks.judging_memory``, on Linux.

Peak memory and seconds of ``srsoup score`` and of one request to ``srsoup serve-reward``: for a small picture, for the
largest that is accepted, and for one that is refused. Each process is a new one.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console

from benchmarks.machine import describe
from rewards.remote.protocol import scores_path

SIDES = {"small": 64, "largest accepted": 4096, "refused": 8192}
REWARD = {"rewards": {"jpeg": {"class_path": "rewards.JPEGCompressibility"}}}
COMMAND = [sys.executable, "-m", "srsoup_lightning"]


def main(out: Path = Path("benchmarks/results/judging_memory.json")) -> None:
    """Measure and write.

    Args:
        out: Where the results go.
    """
    results: dict[str, object] = {"machine": describe()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for name, side in SIDES.items():
            (folder / name).mkdir()
            Image.new("RGB", (side, side), (40, 90, 20)).save(folder / name / "0.png")
            results[f"score, {name}"] = scored(folder, folder / name)
            results[f"serve-reward, {name}"] = served(folder, (folder / name / "0.png").read_bytes())
    Console().print_json(json.dumps(results))
    out.write_text(json.dumps(results, indent=1) + "\n")


def scored(folder: Path, pictures: Path) -> dict[str, float]:
    """Peak megabytes and seconds of a complete ``srsoup score``, its start included, and its exit code."""
    config, prompts = folder / "score.json", folder / "prompts.txt"
    config.write_text(json.dumps(REWARD))
    prompts.write_text("a cat\n")
    options = {"config": config, "images": pictures, "prompts": prompts, "out": pictures / "scores.jsonl"}
    start = perf_counter()
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    process = subprocess.Popen([*COMMAND, "score", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        sleep(0.01)
    return {"MB": round(peak), "seconds": round(perf_counter() - start, 1), "exit code": process.returncode}


def served(folder: Path, picture: bytes) -> dict[str, float]:
    """Megabytes before a request and at the peak, its seconds, and the status of the answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "serve.json"
    config.write_text(json.dumps({**REWARD, "port": port}))
    command = [*COMMAND, "serve-reward", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not listening(port):
                sleep(0.1)
            body = {"protocol": 1, "prompts": ["a cat"], "images": [base64.b64encode(picture).decode()]}
            before, start = memory_of(process.pid), perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("POST", scores_path("jpeg"), json.dumps(body), {"Content-Type": "application/json"})
            status = connection.getresponse().status
            seconds = round(perf_counter() - start, 2)
            peak = memory_of(process.pid)
            return {"MB before": round(before), "MB": round(peak), "seconds": seconds, "status": status}
        finally:
            process.terminate()


def listening(port: int) -> bool:
    """Whether a server answers at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def memory_of(pid: int) -> float:
    """Megabytes that a process has held at most; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except ProcessLookupError:
        return 0.0
    held = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")]
    return held[0] if held else 0.0


if __name__ == "__main__":
    auto_cli(main)
