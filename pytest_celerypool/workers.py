"""The workers of one pytest process: one for all tests that can share it, ended side by side.

Everything that a run starts or creates is owned here: the private folder, the reaper, the broker, the workers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_celerypool.agent.loading import Source, spell
from pytest_celerypool.application import put_on_path
from pytest_celerypool.errors import LackingError, WorkerError
from pytest_celerypool.launch import Launched, Surroundings, WorkerSpec
from pytest_celerypool.pools import Pool, absent
from pytest_celerypool.verdict.findings import Tested, late_findings
from pytest_celerypool.worker import STOP_GRACE_S, alters

if TYPE_CHECKING:
    from pytest_celerypool.agent.redirect import Redirection
    from pytest_celerypool.broker import Broker
    from pytest_celerypool.policies import Policies
    from pytest_celerypool.reaper import Reaper
    from pytest_celerypool.settings import Settings

#: A socket's path may have about 100 characters; the broker's and a margin must fit behind the folder.
_LONGEST_FOLDER = 70

#: How many tests may find out for themselves that a worker cannot start.
_ATTEMPTS = 3


class Workers:
    """Starts, hands out and ends the workers of this process.

    :param settings: the run's settings.
    :param policies: what the agents of the workers look for, and what it does.
    :param root: the project's root.
    :param notes: is given what the run should say of its servers, once.
    """

    def __init__(self, settings: Settings, policies: Policies, root: Path, notes: list[str]) -> None:
        self._settings = settings
        self._policies = policies
        self._root = root
        self._notes = notes
        self._run_id = uuid.uuid4().hex[:10]
        self._folder: Path | None = None
        self._reaper: Reaper | None = None
        self._brokers: dict[str, Broker] = {}
        self._idle: dict[WorkerSpec, Launched] = {}
        self._all: list[Launched] = []
        self._leaving: list[Launched] = []
        self._redirections: dict[tuple[int, str], Redirection] = {}
        self._planned: list[tuple[WorkerSpec, Source, Any]] = []
        self._count = 0
        #: Why the worker of a specification could not start, each time since it last could.
        self._failures: dict[WorkerSpec, list[str]] = {}
        #: Why no worker of a custom pool can start, where a library of that is not installed.
        self._lacking: dict[Pool, str] = {}
        #: For each worker, what :meth:`note_test` was told.
        self._tests: dict[int, list[Tested]] = {}
        #: Findings that showed only after the tests they struck, as plain data.
        self.late: list[dict[str, Any]] = []

    # -- what workers need

    @property
    def folder(self) -> Path:
        """The run's private folder, made at the first use."""
        if self._folder is None:
            base = tempfile.gettempdir()
            if len(base) > _LONGEST_FOLDER - 25:
                base = "/tmp"  # mkdtemp makes a folder there that only its owner can enter
            self._folder = Path(tempfile.mkdtemp(prefix="celerypool-", dir=base))
            self.reaper.remove_folder(self._folder)
        return self._folder

    @property
    def reaper(self) -> Reaper:
        """The process that cleans up if this one cannot."""
        if self._reaper is None:
            from pytest_celerypool.reaper import Reaper

            self._reaper = Reaper.start()
        return self._reaper

    def broker_for(self, app: Any) -> Broker:
        """Return the broker that `app` and its workers talk to, started and checked at the first use.

        :raises BrokerError: it cannot start, or does not answer.
        """
        settings = self._settings
        key = "run" if "app" not in (settings.broker, settings.backend) else f"app-{id(app)}"
        if key in self._brokers and not self._brokers[key].alive():
            self._abandon_brokers()
        if key not in self._brokers:
            from pytest_celerypool.broker import AppUrls, open_broker

            # Only asked where it is used: an application without a broker would be warned of it.
            own = AppUrls.of(app) if "app" in (settings.broker, settings.backend) else AppUrls("", "", None)
            broker = open_broker(settings.broker, settings.backend, self._run_id, self.folder, self.reaper, own)
            self._brokers[key] = broker
            self._notes += broker.notes
            broker.notes.clear()
            broker.check()
        return self._brokers[key]

    def _abandon_brokers(self) -> None:
        """Take away everything that talks to a server that is gone, so that the next test gets all anew."""
        for worker in list(self._all):
            self.discard(worker)
        self._idle.clear()
        for redirection in self._redirections.values():
            redirection.close()
        self._redirections.clear()
        for broker in self._brokers.values():
            broker.close()
        self._brokers.clear()

    def redirection(self, app: Any, target: Mapping[str, Any]) -> Redirection:
        """Return what points `app` in this process at the namespace of a worker."""
        key = (id(app), str(target["prefix"]))
        if key not in self._redirections:
            from pytest_celerypool.agent.redirect import Redirection

            self._redirections[key] = Redirection(app, target, task_always_eager=False)
        return self._redirections[key]

    def _forget_namespace(self, target: Mapping[str, Any]) -> None:
        """Close the connections of this process to a namespace in which nothing will run any more."""
        for key in [key for key in self._redirections if key[1] == str(target["prefix"])]:
            self._redirections.pop(key).close()

    # -- handing out

    def acquire(self, spec: WorkerSpec, source: Source, app: Any, *, fresh: bool) -> Launched:
        """Return a ready worker of that specification that nobody else uses.

        :param fresh: whether it must be a new one.
        :raises WorkerError: it cannot start.
        :raises BrokerError: it has no broker.
        """
        self._check_pool(spec)
        self._check_failures(spec)
        self.broker_for(app)
        worker = None if fresh else self._idle.pop(spec, None)
        if worker is not None and worker.info and (worker.death() is not None or self._changed(worker)):
            self.discard(worker)
            self._forget_namespace(worker.target)
            worker = None
        if worker is None:
            worker = self._start(spec, source, app, ahead=False)
        worker.resume()
        self._wait_ready([worker])
        self._advance()
        return worker

    def start_together(
        self, specs: Iterable[WorkerSpec], source: Source, app: Any, target: Mapping[str, Any]
    ) -> list[Launched]:
        """Start new workers side by side in one namespace, and return them when all are ready.

        :raises WorkerError: one of them cannot start; the others are taken away again.
        """
        specs = list(specs)
        for spec in specs:
            self._check_pool(spec)
            self._check_failures(spec)
        started = [self._start(spec, source, app, ahead=False, target=target) for spec in specs]
        self._wait_ready(started)
        return started

    def _wait_ready(self, workers: list[Launched]) -> None:
        for worker in workers:
            try:
                worker.wait_ready(meanwhile=self._advance)
            except BaseException as exc:
                for each in workers:
                    self.discard(each)
                if isinstance(exc, LackingError):
                    self._lacking[worker.spec.pool] = str(exc)
                elif isinstance(exc, WorkerError):
                    self._failures.setdefault(worker.spec, []).append(str(exc))
                raise
            self._failures.pop(worker.spec, None)

    def _check_pool(self, spec: WorkerSpec) -> None:
        """Refuse a custom pool whose module is not there, or lacks a library."""
        if spec.pool in self._lacking:
            raise LackingError(self._lacking[spec.pool])
        source = f"worker {spec.name!r} of the cluster" if spec.name else source_of(spec.pool, self._settings)
        refuse_absent(spec.pool, source, self._root)

    def _check_failures(self, spec: WorkerSpec) -> None:
        """Refuse to try for each of a thousand tests what has failed often enough."""
        failures = self._failures.get(spec, [])
        if len(failures) >= _ATTEMPTS:
            first, _, _ = failures[-1].partition("\n")
            raise WorkerError(
                f"the {spec.title} could not be started for {len(failures)} tests before and is not tried again; "
                f"their failures show its log. {first.removesuffix(' The end of its log:')}"
            )

    def release(self, worker: Launched, *, clean: bool) -> None:
        """Take a worker back: a clean one serves the next test, any other is taken away with what it still has."""
        if clean and worker.death() is None and worker.spec not in self._idle:
            self._idle[worker.spec] = worker
        else:
            self.discard(worker)
            self._forget_namespace(worker.target)

    def discard(self, worker: Launched) -> None:
        """Kill a worker; its namespace dies with it, so that nothing it had can reach another test."""
        worker.end(0.0)
        self._close(worker)
        if worker in self._all:
            self._all.remove(worker)

    def plan(self, specs: Iterable[WorkerSpec], source: Source, app: Any) -> None:
        """Say which workers later tests will need, the next first: :meth:`acquire` starts them ahead.

        They start at low priority, after the worker that is needed now, and no more at a time than there are
        processors, so that the first is not held up by the last.
        """
        self._planned = [(spec, source, app) for spec in specs]

    def _advance(self) -> None:
        """Start the next planned worker, unless enough are starting."""
        starting = sum(not _is_up(worker) for worker in self._all)
        while self._planned and starting < (os.cpu_count() or 1):
            spec, source, app = self._planned.pop(0)
            if spec not in self._idle:
                self._idle[spec] = self._start(spec, source, app, ahead=True)
                starting += 1

    def pause(self) -> None:
        """Halt the workers that are starting, so that none disturbs a measurement, until :meth:`resume`."""
        for worker in self._idle.values():
            if not _is_up(worker):
                worker.pause()

    def resume(self) -> None:
        """Let the workers that :meth:`pause` halted go on."""
        for worker in self._idle.values():
            worker.resume()

    def retire(self, needed: Iterable[WorkerSpec]) -> None:
        """Ask the idle workers that no later test needs to stop, and do not wait for it."""
        keep = set(needed)
        for spec, worker in list(self._idle.items()):
            if spec not in keep and worker.info:
                del self._idle[spec]
                worker.begin_stop()
                self._leaving.append(worker)

    def _start(
        self, spec: WorkerSpec, source: Source, app: Any, *, ahead: bool, target: Mapping[str, Any] | None = None
    ) -> Launched:
        """Start a worker, in a namespace of its own unless `target` is one that it shares."""
        from pytest_celerypool.launch.inprocess import InProcessWorker
        from pytest_celerypool.launch.subprocess import SubprocessWorker

        self._count += 1
        kind = spec.name or ("custom" if spec.pool.custom else spec.pool.name)
        name = f"{kind}-{self._count}"
        surroundings = Surroundings(
            folder=self.folder / name,
            source=source,
            target=self.broker_for(app).target() if target is None else target,
            root=self._root,
            detection=self._policies.configuration(str(self._root), spec.pool),
        )
        hostname = f"{name}.{self._run_id}"
        worker: Launched
        if spec.launch == "inprocess":
            worker = InProcessWorker(spec, surroundings, hostname, app, self._notes)
        else:
            worker = SubprocessWorker(spec, surroundings, hostname, self.reaper, ahead=ahead)
        self._all.append(worker)
        return worker

    # -- the end

    def note_test(self, worker: Launched, tested: Tested) -> None:
        """Note what ran in a worker, so that what shows at its end can be told to be of which tests."""
        self._tests.setdefault(id(worker), []).append(tested)

    def _close(self, worker: Launched) -> None:
        """Close a worker that has ended, and take in what it found since its last test."""
        self._take_late(worker)
        self._tests.pop(id(worker), None)
        worker.close()

    def note_late(self, worker: Launched, records: Iterable[Mapping[str, Any]]) -> None:
        """Note findings of a worker about tests that were judged before."""
        self.late += late_findings(records, worker.spec.pool.name, self._tests.get(id(worker), []), self._policies.of)

    def _changed(self, worker: Launched) -> bool:
        """Whether something of a worker's last test has changed it by remote control since it was given back."""
        return id(worker) in self._tests and any(
            alters(worker.info, record["name"], record["arguments"]) for record in self._take_late(worker)
        )

    def _take_late(self, worker: Launched) -> list[dict[str, Any]]:
        """Take in what a worker has remarked since its last test was judged; returns the commands among it."""
        remarks, pool = worker.reader.remarks(), worker.spec.pool.name
        self.note_late(worker, [record for record in remarks if record["e"] == "finding"])
        self._notes += [
            f"the agent of a {pool} worker failed between tests, so that what it recorded may be incomplete: "
            f"{record['where']}: {record['error']}"
            for record in remarks
            if record["e"] == "agent-error"
        ]
        return [record for record in remarks if record["e"] in ("command", "sent")]

    def close(self) -> None:
        """End everything side by side: workers, connections, brokers, folder; every wait has a deadline."""
        for redirection in self._redirections.values():
            redirection.close()
        for worker in self._all:
            worker.begin_stop()
        deadline = time.monotonic() + STOP_GRACE_S
        for worker in list(self._all):
            worker.end(deadline - time.monotonic())
            self._close(worker)
        self._all.clear()
        for broker in self._brokers.values():
            broker.close()
            self._notes += broker.notes
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._reaper is not None:
            self._reaper.close()


def source_of(pool: Pool, settings: Settings) -> str:
    """Return what the user wrote the name of a pool in, for messages."""
    return settings.sources["pools"] if pool in (settings.pools or ()) else "celery_pools"


def refuse_absent(pool: Pool, source: str, root: Path) -> None:
    """Refuse a custom pool whose module does not exist.

    :param source: what the user wrote its name in.
    :param root: the project's root; it is put on the path if the module is nowhere else, as it is in workers.
    :raises WorkerError: there is no such module.
    """
    if absent(pool) is None:
        return
    put_on_path(root)
    module = absent(pool)
    if module is not None:
        raise WorkerError(
            f"{source}: there is no module {module!r}, which the pool {pool} names. The root of the project is {root}; "
            "give pkg.module:TaskPool, seen from there, or install the package that has it."
        )


def make_spec(
    settings: Settings,
    source: Source,
    pool: Any,
    wanted: int | None,
    options: tuple[str, ...],
    nodes: int,
    databases: Mapping[str, str],
    launch: str = "subprocess",
    name: str = "",
) -> WorkerSpec:
    """Return the specification of the worker for a test.

    :param wanted: the slots that the test's marker asks for, ``None`` if it does not.
    :param nodes: how many pytest processes share the machine.
    :param launch: how the worker comes to life.
    :param name: what a cluster calls it.
    """
    concurrency = wanted
    if concurrency is None:
        concurrency = settings.concurrency.for_pool(pool, os.cpu_count() or 1, nodes)
    return WorkerSpec(
        source=f"{spell(source)} {source['file'] or ''}",
        pool=pool,
        concurrency=concurrency,
        options=options,
        databases=tuple(sorted(databases.items())),
        launch=launch,
        name=name,
    )


def _is_up(worker: Launched) -> bool:
    """Whether a worker has finished to start, well or badly."""
    try:
        return worker.poll_ready()
    except WorkerError:  # whoever needs it is told
        return True
