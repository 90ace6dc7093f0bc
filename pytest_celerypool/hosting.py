"""Hand the tests that this process cannot run to their hosts, and tell pytest what happens there."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_celerypool.contrib import end_session_workers
from pytest_celerypool.keys import HOST, HOST_NAME, HOSTING, LATE_OF_NODE, NOTES, NOTES_OF_NODE
from pytest_celerypool.launch.host import Farewell, Host, HostError, Hosts, Surroundings, Tests
from pytest_celerypool.lease import workers_of
from pytest_celerypool.pools import POOLS, missing
from pytest_celerypool.running import complete
from pytest_celerypool.serving import not_here

#: How much later than pytest-timeout in the host this process loses patience: it says more if it can act at all.
TIMEOUT_MARGIN_S = 5.0


def run_in_host(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test in its host; returns ``False`` if it needs none, or is skipped since there can be none."""
    if HOST not in item.stash or any(pool.name == item.stash[HOST] and missing(pool) for pool in POOLS):
        return False
    _cancel_timeout(item)
    end_session_workers(item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    _Relay(item).run(nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def prepare(session: pytest.Session) -> None:
    """Note what hosts are told of this process, before a test or a fixture changes it."""
    if not session.config.option.collectonly:
        Hosting.of(session)


def close(config: pytest.Config) -> None:
    """End the hosts, if there are any, and take over what they had to say."""
    hosting = config.stash.get(HOSTING, None)
    if hosting is not None:
        del config.stash[HOSTING]
        hosting.close()


class Hosting:
    """The hosts of a session, and what of its order they need to know.

    :param session: the session; its tests have been collected.
    """

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._following: dict[int, pytest.Item | None] = {}
        files: dict[str, dict[str, None]] = {}
        latest: dict[str, pytest.Item] = {}
        for item in reversed(session.items):
            name = item.stash.get(HOST, None)
            if name is not None:
                self._following[id(item)] = latest.get(name)
                latest[name] = item
                files.setdefault(name, {})[str(item.path)] = None
        testrun = uuid.uuid4().hex
        self._nodes = {name: _Node(session.config, name, testrun) for name in files}
        tests = {name: Tests(name, list(files[name]), node.workerinput) for name, node in self._nodes.items()}
        workers = workers_of(session.config)
        self.hosts = Hosts(_surroundings(session.config, workers.folder), tests, workers.reaper)
        #: The last test of each host: what fails later is reported for it.
        self.last: dict[str, pytest.Item] = {}

    @classmethod
    def of(cls, session: pytest.Session) -> Hosting:
        """Return that of a session, made at the first use."""
        stash = session.config.stash
        if HOSTING not in stash:
            stash[HOSTING] = cls(session)
        return stash[HOSTING]

    def following(self, item: pytest.Item, nextitem: pytest.Item | None) -> tuple[pytest.Item | None, bool]:
        """Return the next test of the same host, and whether there may be one of which nothing is known yet."""
        if not hasattr(item.config, "workerinput"):
            return self._following.get(id(item)), False
        if nextitem is None or nextitem.stash.get(HOST, None) == item.stash[HOST]:
            return nextitem, False
        return None, True  # a node of xdist learns of one test at a time

    def close(self) -> None:
        """End the hosts and pass on what they had to say."""
        for farewell in self.hosts.close():
            self._nodes[farewell.name].say_goodbye(farewell)
            if farewell.problem is not None:
                self._report(farewell)

    def _report(self, farewell: Farewell) -> None:
        """Report what failed at the end of a host for its last test; a node of xdist cannot: it is at another test."""
        text = f"the {farewell.name} host failed at its end:\n{farewell.problem}"
        item = self.last.get(farewell.name)
        if item is None or hasattr(item.config, "workerinput"):
            self._session.config.stash[NOTES].append(text)
        else:
            item.ihook.pytest_runtest_logreport(report=_made(item, "teardown", "failed", text))


class _Relay:
    """Tells pytest what happens to one test in its host."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._name = item.stash[HOST]
        self._plain = _without_group(item)
        #: The phases of which there has been no report yet.
        self._phases = ["setup", "call", "teardown"]

    def run(self, nextitem: pytest.Item | None) -> None:
        item = self._item
        if item.config.getoption("usepdb", False) or item.config.getoption("trace", False):
            option = "--pdb" if item.config.getoption("usepdb", False) else "--trace"
            self._fail(not_here(option, self._name))
            return
        hosting = Hosting.of(item.session)
        hosting.last[self._name] = item
        try:
            try:
                host = hosting.hosts.get(self._name)
            finally:
                item.config.stash[NOTES] += hosting.hosts.notes
                hosting.hosts.notes.clear()
            for name, data in self._messages(host, hosting.following(item, nextitem)):
                self._take(name, data)
        except HostError as exc:
            hosting.hosts.discard(self._name)
            self._fail(str(exc))

    def _messages(self, host: Host, following: tuple[pytest.Item | None, bool]) -> Iterator[tuple[str, dict[str, Any]]]:
        item, (after, unknown) = self._item, following
        limit, renewed = _timeout(item)
        maxfail = item.config.getoption("maxfail", 0)
        if item.config.getoption("capture", "fd") == "no":
            sys.stdout.flush()
        try:
            yield from host.run(
                None if limit is None else limit + TIMEOUT_MARGIN_S,
                renewed=renewed,
                nodeid=self._plain,
                following=None if after is None else _without_group(after),
                only_session=unknown,
                failures_left=max(1, maxfail - item.session.testsfailed) if maxfail else 0,
            )
        except KeyboardInterrupt:
            host.interrupt()
            raise

    def _take(self, name: str, data: dict[str, Any]) -> None:
        if name == "report":
            self._take_report(data["report"])
        elif name == "warning":
            self._take_warning(**data)
        elif name == "missing":
            self._fail(data["text"])
        elif name == "exit":
            pytest.exit(data["reason"], data["returncode"])
        elif name == "interrupted":
            raise KeyboardInterrupt
        elif name == "done":
            session = self._item.session
            session.shouldstop = session.shouldstop or data["shouldstop"]
            session.shouldfail = session.shouldfail or data["shouldfail"]

    def _take_report(self, data: dict[str, Any]) -> None:
        config = self._item.config
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        if report.nodeid == self._plain:
            report.nodeid = self._item.nodeid
        if report.when in self._phases and type(report) is pytest.TestReport:
            self._phases.remove(report.when)
        self._item.ihook.pytest_runtest_logreport(report=report)

    def _take_warning(self, message: dict[str, Any], when: str, nodeid: str, location: Any) -> None:
        from xdist.workermanage import unserialize_warning_message

        arguments = {
            "warning_message": unserialize_warning_message(message),
            "when": when,
            "nodeid": self._item.nodeid if nodeid == self._plain else nodeid,
            "location": location,
        }
        self._item.config.hook.pytest_warning_recorded.call_historic(kwargs=arguments)

    def _fail(self, text: str) -> None:
        """Report that the test failed in the phase that it had come to, and that it is over."""
        when = self._phases[0] if self._phases else "teardown"
        for report in (_made(self._item, when, "failed", text), _made(self._item, "teardown", "passed", None)):
            if report.failed or when != "teardown":
                self._item.ihook.pytest_runtest_logreport(report=report)


def _made(item: pytest.Item, when: Any, outcome: Any, text: str | None) -> pytest.TestReport:
    """Return a report of a phase of which the host sent none."""
    report = pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=text,
        when=when,
        user_properties=item.user_properties,
    )
    complete(item, report)
    return report


def _without_group(item: pytest.Item) -> str:
    """Return a test's id without what a node of xdist appends to it under ``--dist=loadgroup``."""
    if not getattr(item.config.option, "loadgroup", False):
        return item.nodeid
    marks = item.iter_markers("xdist_group")
    groups = {str(mark.args[0] if mark.args else mark.kwargs.get("name", "default")) for mark in marks}
    return item.nodeid.removesuffix(f"@{'_'.join(sorted(groups))}") if groups else item.nodeid


# -- pytest-timeout


def _cancel_timeout(item: pytest.Item) -> None:
    """Stop the clock of pytest-timeout in this process: it runs in the host, whose test it can interrupt."""
    cancel = getattr(item.config.hook, "pytest_timeout_cancel_timer", None)
    if cancel is not None:
        cancel(item=item)


def _timeout(item: pytest.Item) -> tuple[float | None, bool]:
    """Return the seconds that pytest-timeout gives a test, and whether they are for each phase of it alone."""
    module = sys.modules.get("pytest_timeout")
    if module is None or not hasattr(item.config, "_env_timeout"):
        return None, False
    try:
        settings = module._get_item_settings(item)
        return settings.timeout or None, bool(settings.func_only)
    except Exception:  # noqa: BLE001 - another version may have no such function, and a wrong marker is told by it
        return None, False


# -- what a host is told of this process


def _surroundings(config: pytest.Config, folder: Any) -> Surroundings:
    params = config.invocation_params
    args = [os.fspath(arg) for arg in params.args]
    if config.pluginmanager.hasplugin("_cov"):
        # Or it would begin with erasing what others have measured.
        args.insert(0, "--cov-append")
    factory = getattr(config, "_tmp_path_factory", None)
    environment = dict(os.environ)
    environment.pop("PYTEST_CURRENT_TEST", None)
    return Surroundings(
        folder=folder,
        args=args,
        directory=str(params.dir),
        environment=environment,
        basetemp=None if factory is None else str(factory.getbasetemp()),
        capture=config.getoption("capture", "fd") != "no",
    )


class _Node:
    """A host as plugins see it that prepare the nodes of xdist and hear of their end.

    :param testrun: what all processes of the run call it.
    """

    def __init__(self, config: pytest.Config, name: str, testrun: str) -> None:
        parent: dict[str, Any] = getattr(config, "workerinput", {})
        self.config = config
        self.gateway = SimpleNamespace(id=f"{parent.get('workerid', 'master')}-{name}")
        self.workeroutput: dict[str, Any] = {}
        # What the plugins told a node of xdist holds for its hosts.
        self.workerinput: dict[str, Any] = {"workercount": 1, "testrunuid": testrun, "mainargv": sys.argv, **parent}
        self.workerinput |= {"workerid": self.gateway.id, HOST_NAME: name}
        if not parent:
            self._tell("pytest_configure_node", node=self)
            self.workerinput |= _input_for_cov(config)
            if hasattr(config.option, "randomly_seed"):  # pytest-randomly tells it only where xdist was autoloaded
                self.workerinput.setdefault("randomly_seed", config.option.randomly_seed)

    def say_goodbye(self, farewell: Farewell) -> None:
        """Take over what the host had to say at its end."""
        self.workeroutput = farewell.output
        if hasattr(self.config, "workerinput"):
            self.config.stash[NOTES] += farewell.output.get(NOTES_OF_NODE, ())
            vars(self.config)["workeroutput"].setdefault(LATE_OF_NODE, []).extend(farewell.output.get(LATE_OF_NODE, ()))
        else:
            self._tell("pytest_testnodedown", node=self, error=None)

    def _tell(self, hook: str, **arguments: Any) -> None:
        """Call a hook of xdist, plugin by plugin: one that needs the real thing must not stop the others."""
        caller = getattr(self.config.hook, hook, None)
        for each in () if caller is None else caller.get_hookimpls():
            if each.plugin_name == "_cov" or each.wrapper or each.hookwrapper:
                continue  # pytest-cov has these hooks, and fails in them without xdist
            try:
                each.function(*(arguments[name] for name in each.argnames))
            except Exception as exc:  # noqa: BLE001 - it is another's code, given what it has not seen before
                self.config.stash[NOTES].append(
                    f"{hook} of {each.plugin_name} failed for {self.gateway.id}: {type(exc).__name__}: {exc}"
                )


def _input_for_cov(config: pytest.Config) -> dict[str, Any]:
    """Return what pytest-cov tells a node of xdist on the same machine, so that a host's lines are counted."""
    plugin = config.pluginmanager.get_plugin("_cov")
    controller = getattr(plugin, "cov_controller", None)
    if controller is None:
        return {}
    return {
        "cov_master_host": socket.gethostname(),
        "cov_master_topdir": controller.topdir,
        "cov_master_rsync_roots": [],
    }
