"""The errors that this plugin shows to its users, and the hint that most of them end with.

Their texts are complete sentences for the person who runs pytest: what was given, what is valid, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class SettingError(ValueError):
    """An option or ini value is wrong; the whole run stops with a usage error."""


class MarkerError(ValueError):
    """A marker of one test is wrong; that test fails, the others run."""


class WorkerError(Exception):
    """A worker could not start, died, or does not answer."""


class LackingError(WorkerError):
    """The module of a custom pool imports a library that is not installed; tests under the pool are skipped."""


class ClusterError(ValueError):
    """What a test has given to ``celery_pool_cluster`` is wrong; that test fails, the others run."""


class BrokerError(Exception):
    """The broker or the result backend could not start or cannot be reached."""


#: Why nothing runs on Windows, and what to do.
WINDOWS = (
    "pytest-celerypool runs on Linux and macOS: prefork needs fork(), and a worker's processes are ended through "
    "their process group. Run these tests under WSL."
)


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the entry of ``valid`` closest to ``given``, or nothing.

    The leading space lets the result be appended to a sentence; upper and lower case are alike.
    """
    import difflib

    by_lower = {name.lower(): name for name in valid}
    close = difflib.get_close_matches(given.strip().lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


@contextmanager
def known_to_pytest(fixturedef: Any, request: Any) -> Iterator[None]:
    """Have pytest keep what a hook of ours raises in place of a fixture, as it keeps what the fixture raises.

    Without that a fixture of the session has no result and is not ended either, and pytest 9.2 fails the next test that
    asks for it by an assertion of its own (``FixtureDef.execute``).
    """
    try:
        yield
    except (Exception, pytest.fail.Exception, pytest.skip.Exception) as exc:
        if fixturedef.cached_result is None:
            fixturedef.cached_result = (None, fixturedef.cache_key(request), (exc, exc.__traceback__))
        raise
