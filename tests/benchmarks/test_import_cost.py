"""What the plugin costs the runs that have nothing to do with it."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark

ROUNDS = 20
PLUGIN = ("-p", "pytest_celerypool.plugin")

IMPORT = """
import json, pytest, sys, time
before = set(sys.modules)
started = time.perf_counter()
import {module}
elapsed = time.perf_counter() - started
tops = sorted({{name.partition(".")[0] for name in sys.modules}})
print(json.dumps([1000 * elapsed, len(set(sys.modules) - before), tops]))
"""


def test_import(tmp_path: Path, run: Any, show: Any) -> None:
    """After pytest the plugin's module is imported in less than 5 ms, with no Celery, gevent or eventlet."""
    (tmp_path / "nothing.py").touch()
    mine, nothing = [], []
    for _ in range(ROUNDS + 1):
        elapsed, modules, tops = _imported("pytest_celerypool.plugin", tmp_path, run)
        mine.append(elapsed)
        nothing.append(_imported("nothing", tmp_path, run)[0])
    del mine[0], nothing[0]  # they may have compiled
    show(
        "import pytest_celerypool.plugin after pytest",
        f"{median(mine):.2f} ms, {modules} modules",
        "under 5 ms, neither Celery nor gevent nor eventlet",
        show.Figures("the plugin", mine, "ms"),
        show.Figures("an empty module", nothing, "ms"),
    )
    assert not {"celery", "kombu", "gevent", "eventlet", "greenlet", "psutil"} & set(tops)
    assert median(mine) < 5


def _imported(module: str, folder: Path, run: Any) -> tuple[float, int, list[str]]:
    elapsed, modules, tops = json.loads(run([sys.executable, "-c", IMPORT.format(module=module)], folder))
    return elapsed, modules, tops


@pytest.mark.parametrize("tests", [1, 1000])
def test_a_run_without_pools_is_not_slowed(tests: int, tmp_path: Path, run: Any, show: Any) -> None:
    """A run of tests that use no worker takes at most 5 % longer with the plugin than with an empty one.

    The empty one is there because pytest searches all that is installed for a plugin that is named with ``-p``. Judged
    is processor time, which other processes of the machine disturb less; a run is one process that never waits.
    """
    _write_trivial_tests(tmp_path, tests)
    (tmp_path / "nothing.py").touch()
    mine, empty = [], []
    for number in range(ROUNDS + 1):
        sides = [(mine, PLUGIN), (empty, ("-p", "nothing"))]
        for times, options in sides if number % 2 else sides[::-1]:
            times.append(_pytest(tmp_path, run, *options))
    del mine[0], empty[0]  # they may have compiled
    ratios = []
    for number, what in enumerate(("time", "processor time")):
        with_plugin, without = [times[number] for times in mine], [times[number] for times in empty]
        cost = median(one - other for one, other in zip(with_plugin, without, strict=True))
        ratios.append(median(one / other for one, other in zip(with_plugin, without, strict=True)))
        show(
            f"{what} of a run of {tests} trivial tests that uses no pool",
            f"{ratios[-1]:.3f} times as long, {cost:+.1f} ms",
            "not slowed: at most 1.05",
            show.Figures("with the plugin", with_plugin, "ms"),
            show.Figures("with an empty plugin", without, "ms"),
        )
    assert ratios[-1] <= 1.05


def test_autoload_of_the_environment(tmp_path: Path, run: Any, show: Any) -> None:
    """What all plugins of this environment cost such a run together is shown; it is not ours to limit."""
    _write_trivial_tests(tmp_path, 1)
    loaded, disabled = [], []
    for _ in range(ROUNDS + 1):
        loaded.append(_pytest(tmp_path, run, autoload=True)[0])
        disabled.append(_pytest(tmp_path, run)[0])
    del loaded[0], disabled[0]
    cost = median(one - other for one, other in zip(loaded, disabled, strict=True))
    show(
        "autoload of every plugin of this environment",
        f"{median(loaded) / median(disabled):.2f} times as long, {cost:+.0f} ms",
        "none, shown for comparison",
        show.Figures("autoload", loaded, "ms"),
        show.Figures("no plugin", disabled, "ms"),
    )


def _write_trivial_tests(folder: Path, count: int) -> None:
    text = f"import pytest\n\n@pytest.mark.parametrize('number', range({count}))\ndef test_it(number):\n    pass\n"
    (folder / "test_trivial.py").write_text(text)


def _pytest(folder: Path, run: Any, *options: str, autoload: bool = False) -> tuple[float, float]:
    """Run the trivial tests in a process of their own and return the ms and the ms of a processor that it took."""
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""} if autoload else None
    busy, started = _busy(), time.perf_counter()
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."], folder, env)
    return 1000 * (time.perf_counter() - started), 1000 * (_busy() - busy)


def _busy() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
