"""A file of lines that is mapped into memory, and its reader."""

import json
import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pytest_celerypool.agent import tape as tapes
from pytest_celerypool.agent.recorder import Writer
from pytest_celerypool.agent.tape import PIECE, Tape
from pytest_celerypool.trace import TAPE, TraceReader

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system has no posix_fallocate")

DEADLINE_S = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def reader(path: Path):
    made = TraceReader(path)
    yield made
    made.close()


@pytest.fixture
def tape(path: Path) -> Tape:
    return Tape(f"{path}{TAPE}")


def line(number: int, size: int = 0) -> bytes:
    return json.dumps({"e": "x", "n": number, "fill": "." * size}).encode() + b"\n"


def numbers(reader: TraceReader) -> list[int]:
    return [record["n"] for record in reader.read()]


def test_what_is_appended_can_be_read_at_once_and_only_once(tape: Tape, reader: TraceReader):
    tape.append(line(1))
    assert numbers(reader) == [1]
    tape.append(line(2))
    tape.append(line(3))
    assert numbers(reader) == [2, 3]
    assert numbers(reader) == []


def test_lines_go_on_in_the_next_piece(tape: Tape, reader: TraceReader, path: Path):
    count = 4 * PIECE // 1000
    assert all(tape.append(line(number, 950)) for number in range(count))
    assert numbers(reader) == list(range(count))
    assert path.with_name(path.name + TAPE).stat().st_size >= 4 * PIECE


def test_a_line_longer_than_a_piece_gets_one_of_its_own(tape: Tape, reader: TraceReader):
    for number, size in enumerate((10, 3 * PIECE, 10)):
        assert tape.append(line(number, size))
    assert numbers(reader) == [0, 1, 2]


def test_half_a_line_is_not_read_before_its_other_half_is_there(tape: Tape, reader: TraceReader):
    tape._piece.write(b'{"e":"x",')
    assert numbers(reader) == []
    tape._piece.write(b'"n":5}\n')
    assert numbers(reader) == [5]


def test_a_worker_that_was_started_again_goes_on_behind_what_the_first_was_killed_at(tape: Tape, reader: TraceReader):
    tape.append(line(1))
    tape._piece.write(b'{"e":"x","n":')
    assert numbers(reader) == [1]
    Tape(tape._path).append(line(2))
    assert numbers(reader) == [2]


@pytest.mark.parametrize(("size", "each"), [(300, 500), (PIECE // 3, 50)], ids=["lines", "thirds of a piece"])
def test_threads_that_append_at_once_lose_nothing(tape: Tape, reader: TraceReader, size: int, each: int):
    def append(first: int) -> None:
        for number in range(first, first + each):
            assert tape.append(line(number, size))

    threads = [threading.Thread(target=append, args=(first,)) for first in range(0, 8 * each, each)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(numbers(reader)) == list(range(8 * each))


def test_who_appends_in_the_middle_of_a_turn_is_told_that_it_was_not_taken(
    tape: Tape, reader: TraceReader, monkeypatch: pytest.MonkeyPatch
):
    """As a signal handler does, or a callback of the garbage collector."""
    taken = []

    def interrupted(piece: mmap.mmap) -> None:
        taken.append(tape.append(line(0, PIECE)))
        fill(piece)

    fill = tapes._fill
    monkeypatch.setattr(tapes, "_fill", interrupted)
    assert tape.append(line(1, PIECE))
    assert taken == [False]
    assert numbers(reader) == [1]


def test_no_space_is_said_and_ends_nothing(tape: Tape, reader: TraceReader, monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    tape.append(line(1))
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not tape.append(line(2, PIECE))
    assert tape.append(line(3))
    assert numbers(reader) == [1, 3]


def test_a_writer_without_space_for_a_tape_writes_to_its_file(
    path: Path, reader: TraceReader, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    writer = Writer(str(path), alone=True)
    writer.write("x", n=1)
    writer.close()
    assert numbers(reader) == [1]
    assert b'"n":1' in path.read_bytes()


CHILD = """
import os, sys
from pytest_celerypool.agent.recorder import Writer

writer = Writer(sys.argv[1], alone=True)
writer.write("x", n=1)
child = os.fork()
if not child:
    writer.write("x", n=2)
    os._exit(0)
os.waitpid(child, 0)
writer.write("x", n=3)
os.kill(os.getpid(), 9)
"""


def test_a_forked_child_writes_to_the_file_and_what_was_written_survives_a_kill(path: Path, reader: TraceReader):
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], timeout=DEADLINE_S, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(numbers(reader)) == [1, 2, 3]
    assert [json.loads(each)["n"] for each in path.read_bytes().splitlines()] == [2]


def test_packed_records_go_on_in_the_next_piece(path):
    """What a task writes is read whole and in its order, whatever it fits into."""
    writer, reader = Writer(str(path), alone=True), TraceReader(path)
    count = 3 * PIECE // 100
    for number in range(count):
        writer.pack((float(number), "1", "t.a", number, None, "recv"))
    assert [record["retries"] for record in reader.read()] == list(range(count))
    assert not path.read_bytes()
    writer.close()
    reader.close()
