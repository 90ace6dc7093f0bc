"""The file of ``--celery-baseline``: what tasks took in earlier runs, on each machine.

It is JSON, sorted and indented so that a difference can be read, and is meant to be kept with the project::

    {
      "format": "pytest-celerypool baseline",
      "version": 1,
      "machines": {MACHINE: {TASK: {POOL: {TEST: FIGURES}}}}
    }

FIGURES are ``count`` and ``concurrency``, and for each measure seconds in order, a hundred at most.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_celerypool.errors import SettingError

FORMAT = "pytest-celerypool baseline"
VERSION = 1

#: How many figures stand on a line.
_A_LINE = 10

#: Task to pool (as in the test's id) to test (without the pool) to figures.
Tasks = dict[str, dict[str, dict[str, dict[str, Any]]]]
#: Machine to its tasks.
Machines = dict[str, Tasks]


def machine() -> str:
    """Return what tells this machine from others that take another time for the same task.

    Its name is no part of it: in CI each run has another.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    version = ".".join(platform.python_version_tuple()[:2])
    parts = [f"{platform.system()} {platform.machine()}", _model(), f"{count} processor{'s' if count > 1 else ''}"]
    return ", ".join([*filter(None, parts), f"{platform.python_implementation()} {version}"])


def _model() -> str:
    """Return the model of the processor, empty if the system does not tell."""
    if sys.platform == "darwin":
        return _of_sysctl()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return " ".join(platform.processor().split())
    found = dict(re.findall(r"(?m)^(model name|Hardware|cpu model|CPU implementer|CPU part)\s*:\s*(.+)$", text))
    named = next((found[key] for key in ("model name", "cpu model", "Hardware") if key in found), "")
    # On arm64 there are only numbers.
    return " ".join((named or " ".join(found.values())).split())


def _of_sysctl() -> str:
    import subprocess

    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return platform.processor()


def check(path: Path, source: str) -> None:
    """Refuse, before any test runs, a file that could not be read or written at the end; raises SettingError.

    :param source: what named the file.
    """
    if not path.parent.is_dir():
        raise SettingError(
            f"{source}: {path} cannot be written: there is no folder {path.parent}. Make it, or name a file elsewhere."
        )
    if not os.access(path.parent, os.W_OK):
        raise SettingError(f"{source}: {path} cannot be written: this user may not write to the folder {path.parent}.")
    if path.is_dir():
        raise SettingError(f"{source}: {path} is a folder. Name a file, as in {path / 'celery-baseline.json'}.")
    try:
        read(path)
    except ValueError as exc:
        raise SettingError(f"{source}: {exc}") from None


def read(path: Path) -> Machines:
    """Return what a file holds, nothing if there is none; raises ValueError with a text that names it."""
    remedy = "Name another file, or remove this one to begin anew."
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"{path} cannot be read: {exc}. {remedy}") from None
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"{path} is not JSON: {exc}. {remedy}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a baseline of pytest-celerypool: it does not say that its format is {FORMAT!r}. {remedy}"
        )
    if document.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {document.get('version')!r} of the format, and this pytest-celerypool reads version "
            f"{VERSION}. {remedy}"
        )
    machines = document.get("machines")
    problem = _problem(machines, ("machines", "tasks", "pools", "tests", "figures"))
    if problem is not None:
        raise ValueError(f"{path} is damaged: {problem}. {remedy}")
    assert isinstance(machines, dict)
    return machines


def _problem(node: object, levels: tuple[str, ...], where: str = "") -> str | None:
    """Return what is wrong with a part of the file, None if nothing is."""
    if not isinstance(node, dict):
        return f"{where or 'the file'} has no {levels[0]}"
    if len(levels) > 1:
        return next((found for name, each in node.items() if (found := _problem(each, levels[1:], name))), None)
    for name, value in node.items():
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, list) and not value:
            return f"{name} of {where} is empty"
        if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers):
            return f"{name} of {where} holds something else than numbers"
    return None


def update(path: Path, change: Callable[[Machines], Machines]) -> None:
    """Change a file so that no reader sees half of it, and no other run's change is lost.

    :param change: given what the file holds now, returns what it is to hold.
    :raises OSError: it cannot be written.
    :raises ValueError: meanwhile somebody made something else of it.
    """
    path = path.resolve()  # what a link points to, not the link, is to be replaced
    with _locked(path.parent):
        before = read(path)
        after = change(before)
        if after == before and path.exists():
            return
        text = f"{_dump({'format': FORMAT, 'machines': after, 'version': VERSION})}\n"
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            fresh.write_text(text, encoding="utf-8")
            if path.exists():
                fresh.chmod(path.stat().st_mode)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder: the folder itself is locked, so that no file of the lock is left."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # some network file systems lock no folder; there two runs at the very same time may lose one's change
        yield
    finally:
        os.close(descriptor)


def _dump(node: Any, indent: str = "") -> str:
    """Return JSON, sorted, with a line for each key and for each ten figures."""
    inner = f"{indent}  "
    if isinstance(node, dict):
        lines = [f"{inner}{json.dumps(key)}: {_dump(node[key], inner)}" for key in sorted(node)]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}" if lines else "{}"
    if isinstance(node, list) and len(node) > _A_LINE:
        rows = [json.dumps(node[start : start + _A_LINE])[1:-1] for start in range(0, len(node), _A_LINE)]
        return "[\n" + ",\n".join(f"{inner}{row}" for row in rows) + f"\n{indent}]"
    return json.dumps(node)
