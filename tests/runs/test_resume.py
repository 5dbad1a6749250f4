"""Runs that are killed, disturbed and continued: no soup is made twice, lost or damaged."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import stat
import time
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from srsoup_lightning import SRSoupModule
from srsoup_lightning.callbacks import SampleWriter
from srsoup_lightning.runs.directory import RunDirectory
from srsoup_lightning.runs.files import append_rows, make_folder, read_rows, write_atomically
from tests.callbacks.test_callbacks import predict
from tests.processes import arguments, make_all, start
from tests.report.runs import read_rows as json_rows
from tests.runs.test_directory import make_soup

ROOT = Path(__file__).resolve().parents[2]


def contents(root: Path) -> dict[str, object]:
    """Everything that a run leaves, but for the time it took."""
    run = RunDirectory(root)
    costs = sorted(json.dumps({**row, "seconds": 0}) for row in json_rows(run.ledger))
    pictures = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}
    return {"rows": sorted(run.samples.read_text().splitlines()), "costs": costs, "pictures": pictures}


def check_kills(tmp_path: Path, kills: int) -> None:
    """Kill a run at random moments, let it end, and compare it with an undisturbed one."""
    seeds, moments = 3 * kills // 2, random.Random(0)  # so many seeds that most kills meet a run under way
    run = arguments(tmp_path / "killed", seeds)
    for _ in range(kills):
        victim = start(run)
        time.sleep(moments.uniform(0.05, 0.6))
        victim.kill()
        victim.join()
    last = start(run)
    last.join()
    assert last.exitcode == 0
    make_all(tmp_path / "complete", seeds)
    assert contents(tmp_path / "killed") == contents(tmp_path / "complete")
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_killed_at_any_moment_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    check_kills(tmp_path, 3)


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path) -> None:
    check_kills(tmp_path, 50)


SOUPS = 4


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.floats(0, 1), ledger=st.floats(0, 1), lost=st.sets(st.integers(0, 2 * SOUPS - 1), max_size=2),
    processes=st.integers(1, 3),
)  # fmt: skip
@example(samples=1.0, ledger=1.0, lost={0}, processes=1)
def test_complete_soups_are_kept_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, samples: float, ledger: float, lost: set[int], processes: int
) -> None:
    """Tables that end anywhere, of one process or of several, and pictures that are gone."""
    root = tmp_path_factory.mktemp("run")
    soups = [make_soup(seed=seed) for seed in range(SOUPS)]
    for index, soup in enumerate(soups):
        RunDirectory(root, rank=index % processes).write(soup)
    first = RunDirectory(root)
    written = {(row.seed, row.image) for row in first.image_rows()}
    for table, share in ((first.samples, samples), (first.ledger, ledger)):
        table.write_bytes(table.read_bytes()[: round(share * table.stat().st_size)])
    for index in lost:
        sorted(root.rglob("*.png"))[index].write_bytes(b"")
    rows, costs = list(first.image_rows()), {row.seed for row in first.cost_rows()}
    torn = {image for _, image in written if not (root / image).stat().st_size}
    expected = {
        seed
        for seed in costs
        if {(seed, row.image) for row in rows if row.seed == seed} == {pair for pair in written if pair[0] == seed}
        and not any(image in torn for other, image in written if other == seed)
    }
    assert {seed for _, seed in first.recover()} == expected
    images, costs = json_rows(first.samples), json_rows(first.ledger)
    assert {row["seed"] for row in images} == {row["seed"] for row in costs} == expected
    assert len(images) == 2 * len(expected)
    assert not list(root.glob("*.[0-9].jsonl"))
    before = {table: table.stat().st_mtime_ns for table in (first.samples, first.ledger)}
    first.recover()
    assert before == {table: table.stat().st_mtime_ns for table in before}


def test_tables_are_united_where_a_process_has_pictures_without_their_costs(tmp_path: Path) -> None:
    for rank in (0, 1):
        RunDirectory(tmp_path, rank=rank).write(make_soup(seed=rank))
    RunDirectory(tmp_path, rank=1).ledger.unlink()
    RunDirectory(tmp_path).unite()
    assert {row.seed for row in RunDirectory(tmp_path).image_rows()} == {0}
    assert not list(tmp_path.glob("*.[0-9].jsonl"))


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for seed in range(3):
        run.write(make_soup(seed=seed))
    lines = run.ledger.read_text().splitlines()
    run.ledger.write_text("\n".join([lines[0], lines[1][:20], lines[2], ""]))
    with pytest.raises(ValueError, match=r"ledger.jsonl, line 2 is damaged .*: delete that line"):
        run.recover()


def test_a_busy_or_unwritable_directory_is_refused_before_sampling(module: SRSoupModule, tmp_path: Path) -> None:
    root, steps = tmp_path / "run", []
    predict(module, root, [SampleWriter()], ["a cat"])
    before = contents(root)
    module.step_callbacks.append(steps.append)
    with FileLock(RunDirectory(root).lock), pytest.raises(FileExistsError, match="another process is running in"):
        predict(module, root, [SampleWriter(overwrite=True)], ["a cat"])
    assert contents(root) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        predict(module, tmp_path / "file" / "run", [SampleWriter()], ["a cat"])
    assert not steps
    predict(module, root, [SampleWriter()], ["a cat", "a dog"])


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_disk(monkeypatch: pytest.MonkeyPatch, files: int = 0) -> None:
    """Let so many files be written from now on, and no more."""
    left = iter(range(files))

    def fsync(handle: int) -> None:
        if not stat.S_ISDIR(os.fstat(handle).st_mode) and next(left, None) is None:
            raise FULL

    monkeypatch.setattr(os, "fsync", fsync)


class Disk:
    """A disk that loses, in a power cut, whatever was not flushed: contents of files, and names in folders."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.old = {root, *root.parents}
        self.flushed: set[Path] = set()  # files with their contents
        self.named: set[Path] = set()  # names in folders
        self.waiting: dict[Path, list[Path]] = {}  # names that a flush of their folder would keep
        self.fsync, self.replace, self.mkdir = os.fsync, Path.replace, Path.mkdir
        patch.setattr(os, "fsync", self.flush)
        patch.setattr(Path, "replace", lambda path, target: self.rename(path, target))
        patch.setattr(Path, "mkdir", lambda path, *given, **options: self.make(path, *given, **options))
        self.cuts: list[set[Path]] = []  # what is there at each flush of the table of costs

    def flush(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            self.named |= set(self.waiting.pop(path, []))
        else:
            self.flushed.add(path)
            if path not in self.named:
                self.waiting.setdefault(path.parent, []).append(path)
            if path.name == "ledger.jsonl":
                self.cuts.append({file for file in self.flushed if self.is_there(file)})
        self.fsync(handle)

    def rename(self, path: Path, target: Path) -> Path:
        assert path in self.flushed, f"{target} gets its name before its content is on the disk"
        self.flushed.add(target)
        self.waiting.setdefault(target.parent, []).append(target)
        return self.replace(path, target)

    def make(self, path: Path, *arguments: object, **options: object) -> None:
        self.waiting.setdefault(path.parent, []).append(path)
        return self.mkdir(path, *arguments, **options)

    def is_there(self, path: Path) -> bool:
        return all(part in self.named or part in self.old for part in (path, *path.parents))


def test_what_a_row_of_costs_promises_is_there_after_a_power_cut(
    module: SRSoupModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        disk = Disk(patch, tmp_path)
        predict(module, tmp_path / "run", [SampleWriter()], ["a cat", "a dog"])
    run = RunDirectory(tmp_path / "run")
    soups = [{run.root / row.image for row in rows} for _, rows in itertools.groupby(run.image_rows(), lambda r: r.key)]
    assert len(disk.cuts) == len(soups) > 1
    made: set[Path] = set()
    for soup, there in zip(soups, disk.cuts, strict=True):
        made |= soup
        assert made | {run.samples, run.identity} <= there
    assert disk.is_there(run.ledger)


def test_rows_and_files_that_do_not_fit_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, real, room = tmp_path / "rows.jsonl", os.write, [5]

    def rows() -> list[dict]:
        return [row for _, row in read_rows(table)]

    assert rows() == []
    append_rows(table, [{"a": 1}])

    def little_room(handle: int, content: bytes) -> int:
        if not room[0]:
            raise FULL
        written = real(handle, content[: room[0]])
        room[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", little_room)
        with pytest.raises(OSError, match="No space left"):
            append_rows(table, [{"b": 2}, {"c": 3}])
    assert rows() == [{"a": 1}]
    append_rows(table, [{"d": 4}])
    assert rows() == [{"a": 1}, {"d": 4}]
    with table.open("a") as file:
        file.write('{"e": 5}')  # a line that is still being written is no row
    assert rows() == [{"a": 1}, {"d": 4}]
    write_atomically(table, b"old")
    fill_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(table, b"new")
    assert [found.read_bytes() for found in tmp_path.iterdir()] == [b"old"]


def test_a_folder_may_be_made_by_two_at_once_and_what_is_written_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = Path.mkdir, len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(Path, "mkdir", lambda path, **options: (real(path), real(path, **options)))
    make_folder(tmp_path / "a" / "b")
    write_atomically(tmp_path / "a" / "b" / "c", b"c")
    append_rows(tmp_path / "a" / "b" / "d.jsonl", [{"d": 1}])
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_names_that_are_not_flushed_are_an_error_unless_the_disk_never_flushes_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for write in (
        lambda: write_atomically(tmp_path / "a", b"a"),
        lambda: append_rows(tmp_path / "b.jsonl", [{"b": 1}]),
    ):
        if code == errno.EIO:
            with pytest.raises(OSError, match=os.strerror(code)):
                write()
        else:
            write()
    assert [row for _, row in read_rows(tmp_path / "b.jsonl")] == ([] if code == errno.EIO else [{"b": 1}])


def test_a_disk_that_fills_up_keeps_the_finished_soups_and_a_clock_that_is_set_back_changes_nothing(
    module: SRSoupModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fill_disk(patch, files=11)  # the lease, one soup of six pictures, and a part of the next
        with pytest.raises(OSError, match="No space left"):
            predict(module, tmp_path / "full", [SampleWriter()], ["a cat"])
    assert [row.seed for row in RunDirectory(tmp_path / "full").cost_rows()] == [0]
    predict(module, tmp_path / "roomy", [SampleWriter()], ["a cat"])
    hours = itertools.count()
    monkeypatch.setattr(time, "time", lambda: -3_600.0 * next(hours))
    predict(module, tmp_path / "set back", [SampleWriter()], ["a cat"])
    for root in ("full", "set back"):
        predict(module, tmp_path / root, [SampleWriter()], ["a cat"])
        assert contents(tmp_path / root) == contents(tmp_path / "roomy")
    assert all(row.ledger.seconds > 0 for row in RunDirectory(tmp_path / "set back").cost_rows())
