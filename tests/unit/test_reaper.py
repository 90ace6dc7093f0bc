"""The process that outlives pytest, tried with real processes that end in every way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_celerypool.reaper import Reaper, removable

DEADLINE = 10.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} within {DEADLINE:.0f} s")
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether there is such a process, one that only waits to be collected left aside."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(status.stdout.strip()) and not status.stdout.strip().startswith("Z")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="celerypool-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
    Path(f"{path}.mark").unlink(missing_ok=True)


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    started = Reaper.start()
    yield started
    started.close()


#: Stands for pytest: starts a process and a reaper, entrusts it with everything, and ends as it is told.
OWNER = """
import os, signal, subprocess, sys, time
from pytest_celerypool.reaper import Reaper

folder, mark, ending = sys.argv[1:]
look = "import os, sys; open(sys.argv[1], 'w').write(str(os.path.isdir(os.environ['AT'])))"
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
child = subprocess.Popen(sleep, process_group=0, stdout=subprocess.DEVNULL)
reaper = Reaper.start()
reaper.kill_group(child.pid)
reaper.remove_folder(folder)
reaper.run_at_end([sys.executable, "-c", look, mark], {"AT": folder})
print(child.pid, reaper.pid, flush=True)
exec(ending)
"""

ENDINGS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "os._exit": "os._exit(0)",
    "a return without close": "pass",
    "a fork that lives on": """
if os.fork() == 0:
    os.closerange(1, 3)  # or the test would wait for the end of its output
    deadline = time.monotonic() + 15
    while os.path.exists(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
os._exit(0)
""",
}


def end_as(ending: str, folder: Path) -> tuple[int, int]:
    """Run the owner to its end; returns the process ids of its child and of its reaper."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(folder), f"{folder}.mark", ending],
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    child, reaper = map(int, result.stdout.split())
    return child, reaper


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_dead_owner_leaves_no_process(ending: str, folder: Path) -> None:
    """However the owner ends, the group it entrusted is killed and the reaper ends too."""
    child, reaper = end_as(ENDINGS[ending], folder)
    wait_until(lambda: not running(child) and not running(reaper), "child and reaper did not end")


def test_a_dead_owner_leaves_no_folder(folder: Path) -> None:
    """The folder that a killed owner entrusted is removed."""
    end_as(ENDINGS["SIGKILL"], folder)
    wait_until(lambda: not folder.exists(), "the folder was not removed")


def test_commands_run_before_folders_are_removed(folder: Path) -> None:
    """A clean-up command still finds what is in the folder."""
    end_as(ENDINGS["SIGKILL"], folder)
    mark = Path(f"{folder}.mark")
    wait_until(lambda: mark.exists() and mark.read_text() != "", "the command did not run")
    assert mark.read_text() == "True"


def test_done_leaves_everything_alone(reaper: Reaper, folder: Path) -> None:
    """After close() nothing that was entrusted is touched."""
    reaper.remove_folder(folder)
    reaper.close()
    assert folder.exists()


def test_close_ends_the_process(reaper: Reaper) -> None:
    """close() returns with the process gone."""
    reaper.close()
    assert not running(reaper.pid)


def test_a_forgotten_group_lives_on(folder: Path) -> None:
    """A group that was taken back is not killed."""
    code = ENDINGS["SIGKILL"].replace("os.kill(", "reaper.forget_group(child.pid); os.kill(", 1)
    child, reaper = end_as(code, folder)
    wait_until(lambda: not running(reaper), "the reaper did not end")
    alive = running(child)
    os.kill(child, signal.SIGKILL)
    assert alive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_do_not_end_it(number: signal.Signals, reaper: Reaper) -> None:
    """Ctrl-C, a CI system's SIGTERM and a closed terminal do not reach it, not even while it starts."""
    os.kill(reaper.pid, number)
    with pytest.raises(subprocess.TimeoutExpired):
        reaper._process.wait(0.2)


def test_start_does_not_wait() -> None:
    """Starting costs pytest less than 10 ms, the best of five."""
    best = 1.0
    for _ in range(5):
        before = time.perf_counter()
        started = Reaper.start()
        best = min(best, time.perf_counter() - before)
        started.close()
    assert best < 0.01


def test_a_dead_reaper_is_no_error(reaper: Reaper) -> None:
    """pytest goes on if somebody killed the reaper."""
    os.kill(reaper.pid, signal.SIGKILL)
    reaper._process.wait(DEADLINE)
    reaper.kill_group(999_999)


def test_a_foreign_folder_is_refused(reaper: Reaper, tmp_path: Path) -> None:
    """A folder that is not named like ours, or is not in the temporary folder, is never entrusted."""
    with pytest.raises(ValueError, match="must begin with 'celerypool-'"):
        reaper.remove_folder(tmp_path)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda base: base / "data", id="another name"),
        pytest.param(lambda base: base / "celerypool-x", id="another place"),
        pytest.param(lambda base: base / "..", id="a parent"),
        pytest.param(lambda base: Path("/"), id="the root"),
        pytest.param(lambda base: Path(tempfile.gettempdir()), id="the temporary folder itself"),
    ],
)
def test_what_is_not_ours_is_not_removable(make: Callable[[Path], Path], tmp_path: Path) -> None:
    """Only a folder with our name, directly in the temporary folder, may be removed."""
    path = make(tmp_path)
    path.mkdir(exist_ok=True)
    assert not removable(str(path))


def test_a_link_is_not_removable(tmp_path: Path) -> None:
    """A symbolic link with our name in our place leads to somebody else's files."""
    link = Path(tempfile.gettempdir(), f"celerypool-link-{os.getpid()}")
    link.symlink_to(tmp_path)
    try:
        assert not removable(str(link))
    finally:
        link.unlink()
