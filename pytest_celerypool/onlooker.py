"""Watch the workers of contrib's fixtures, so that suites which know nothing of findings get them too, as warnings.

Such a suite was green before: its tests fail for a finding only where the user has chosen that policy.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from pytest_celerypool.agent.recorder import Recorder, Writer
from pytest_celerypool.agent.watch import Watch
from pytest_celerypool.keys import POLICIES
from pytest_celerypool.lease import workers_of
from pytest_celerypool.policies import Policies
from pytest_celerypool.pools import OWN, Pool
from pytest_celerypool.trace import Finding, Policy, TraceReader

_numbers = itertools.count(1)


class Onlooker:
    """The agent beside one worker in this process, from before its start until :meth:`close`.

    :param app: whose tasks are watched.
    :param pool: of the worker.
    :param config: pytest's.
    :param detection: what the detectors need.
    """

    def __init__(self, app: Any, pool: Pool, config: pytest.Config, detection: dict[str, Any]) -> None:
        self._pool = pool
        folder = workers_of(config).folder / f"contrib-{next(_numbers)}"
        folder.mkdir(mode=0o700)
        path = folder / "trace"
        self._writer = Writer(str(path))
        self._reader = TraceReader(path)
        recorder = Recorder(self._writer, green=pool.green, app=app)
        self._watch = Watch(recorder, detection, "inprocess", str(folder))
        self._watch.install()
        self._disconnect = recorder.connect()
        self._watch.begin(app)

    @classmethod
    def of(cls, app: Any, pool: Pool, config: pytest.Config) -> Onlooker | None:
        """Return one for a worker; ``None`` where nothing is known of the pool, or nobody wants findings."""
        if pool.custom or pool == OWN:
            return None
        detection = config.stash[POLICIES].configuration(str(config.rootpath), pool)
        return None if detection is None else cls(app, pool, config, detection)

    def findings(self) -> list[Finding]:
        """Return what was found since the last call, each once."""
        found = [Finding.of(record, self._pool.name) for record in self._reader.read() if record["e"] == "finding"]
        return list({finding.identity: finding for finding in found}.values())

    def ready(self, controller: Any) -> None:
        """The worker consumes."""
        self._watch.ready(controller)

    def stopping(self) -> None:
        """The worker begins to shut down."""
        self._watch.stopping()

    def close(self) -> list[Finding]:
        """End, and return what was found since :meth:`findings` was called last."""
        self._watch.remove()
        self._disconnect()
        found = self.findings()
        self._writer.close()
        self._reader.close()
        return found


def policy_for_suite(policies: Policies, kind: str) -> Policy:
    """Return what a finding of a kind does to a test of contrib's fixtures: it warns, unless the user chose else."""
    chosen = policies.named.get(kind, policies.everywhere)
    if chosen is not None:
        return chosen
    return "off" if policies.of(kind) == "off" else "warn"
