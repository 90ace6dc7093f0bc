"""The host's side: a pytest session that collects what pytest's own does, and runs the tests that it is told to.

To every plugin it looks like a node of xdist: they know that such a process writes no report of its own, shares no
database with its neighbours, and hands what it found to another.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Generator, Mapping
from typing import Any

import pytest
from _pytest._io import TerminalWriter
from _pytest.config import _prepareconfig
from _pytest.outcomes import OutcomeException

from pytest_celerypool.channel import Channel

#: Asks for the stacks. Its default is to be ignored, so sending it can hurt no process; the agent has taken SIGURG.
STACKS = signal.SIGWINCH

_BEGIN_TIMEOUT_S = 30.0
_MOST_GREENLETS = 50
_OF_PYTEST = ("_pytest.", "pluggy.", __name__)

#: Which tests run, and when it is enough, was decided by the process that collected them first.
_OPTIONS = {
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "stepwise": False,
    "stepwise_skip": False,
    "stepwise_reset": False,
    "maxfail": 0,
    "cacheclear": False,
    "continue_on_collection_errors": True,
    # There is nobody whom a debugger could ask.
    "usepdb": False,
    "trace": False,
    # The file has been begun.
    "log_file_mode": "a",
    # As xdist does for its nodes.
    "loadgroup": False,
    "looponfail": False,
    "dist": "no",
    "distload": False,
    "numprocesses": None,
    "maxprocesses": None,
}


def serve(name: str, fd: int, log: str) -> int:
    """Run a session until the other side closes it or is gone; returns the exit status.

    :param name: the host's name.
    :param fd: the number of the open socket.
    :param log: the file that may be shown if this process dies.
    """
    os.set_inheritable(fd, False)
    # Whoever hears what happens here may be halted for a while: no deadline.
    channel = Channel(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fd))
    begin = channel.receive(_BEGIN_TIMEOUT_S)
    if begin is None:
        raise TimeoutError("nobody said what to do")
    given = begin[1]
    server = Server(channel, name, log, given)
    try:
        config = _configure(given, server)
    except pytest.UsageError as exc:
        channel.send("broken", text="\n".join(str(arg) for arg in exc.args))
        return int(pytest.ExitCode.USAGE_ERROR)
    except BaseException:
        channel.send("broken", text=traceback.format_exc())
        raise
    status = config.hook.pytest_cmdline_main(config=config)
    try:
        channel.send("finished", output=getattr(config, "workeroutput", {}), problem=server.problem)
    except OSError:  # nobody is there to hear it
        pass
    return int(status)


def _configure(given: Mapping[str, Any], server: Server) -> pytest.Config:
    workerinput = given["workerinput"]
    config = _prepareconfig(list(given["args"]), [server])
    for option, value in _OPTIONS.items():
        setattr(config.option, option, value)
    config.option.basetemp = given["basetemp"]
    config._parser.prog = os.path.basename(workerinput["mainargv"][0])
    # What xdist sets, and plugins ask for.
    vars(config).update(workerinput=workerinput, workeroutput={})
    return config


class Server:
    """The plugin that listens to the other side, and tells it what happens.

    :param given: what the other side said at the beginning.
    """

    def __init__(self, channel: Channel, name: str, log: str, given: Mapping[str, Any]) -> None:
        self._channel = channel
        self._name = name
        self._files = frozenset(given["files"])
        self._items: dict[str, pytest.Item] = {}
        #: Why a file could not be collected here.
        self._broken: dict[str, str] = {}
        self._log = open(log, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        #: What failed when there was no test any more that it could be reported for.
        self.problem: str | None = None

    # -- beginning

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Say nothing on the terminal; be able to say where the process is when it hangs or crashes."""
        vars(config)["get_terminal_writer"] = self._terminal_writer
        faulthandler.enable(self._log)
        if "greenlet" in sys.modules:
            self._test_greenlet = sys.modules["greenlet"].getcurrent()
            signal.signal(STACKS, self._write_greenlets)
            faulthandler.register(STACKS, self._log, chain=True)
        else:
            faulthandler.register(STACKS, self._log)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> Generator[None]:
        """Begin, before a terminal plugin shows its header."""
        self._session = session
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter._tw = TerminalWriter(open(os.devnull, "w"))  # noqa: SIM115 - the same
        return (yield)

    def _terminal_writer(self) -> TerminalWriter:
        """Return what writes to the log: pytest-timeout says there where a test hangs before it ends the process."""
        if sys._getframe(1).f_globals.get("__name__") == "pytest_timeout" and "greenlet" in sys.modules:
            self._write_greenlets()
        return TerminalWriter(self._log)

    def _write_greenlets(self, *_: Any) -> None:
        kind = sys.modules["greenlet"].greenlet
        # Not isinstance, which asks a lazy object of the user's what it is.
        greenlets = [self._test_greenlet, *(each for each in gc.get_objects() if issubclass(type(each), kind))]
        frames = dict.fromkeys(each.gr_frame for each in greenlets if each.gr_frame is not None)
        for frame in list(frames)[:_MOST_GREENLETS]:
            stack = "".join(traceback.format_stack(frame))
            self._log.write(f"Greenlet (most recent call last):\n{stack}\n")
        self._log.flush()

    # -- collection

    @pytest.hookimpl(tryfirst=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> pytest.CollectReport | None:
        """Leave out the files in which this host has no test: they need not even be importable here."""
        if not isinstance(collector, pytest.File) or str(collector.path) in self._files:
            return None
        if any("::" in argument for argument in collector.config.args):
            return None  # pytest would say that the test of that name does not exist
        return pytest.CollectReport(collector.nodeid, "passed", None, [])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why a file cannot be collected: perhaps it can elsewhere, and its tests are asked for."""
        if report.failed:
            self._broken[report.nodeid] = report.longreprtext
        self._channel.send("collecting")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Know every item, whichever a plugin selects: the other side has selected."""
        self._items = {item.nodeid: item for item in items}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Say that tests can be run."""
        self._items |= {item.nodeid: item for item in session.items}
        self._channel.send("ready")

    # -- tests

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run what is asked for until nobody asks any more."""
        try:
            while True:
                message = self._channel.receive(None)
                if message is None or message[0] != "run":
                    break
                self._run(**message[1])
        except EOFError:  # pytest is gone
            pass
        finally:
            self._tear_down(None)
        return True

    def _run(self, nodeid: str, following: str | None, only_session: bool, failures_left: int) -> None:
        """Run a test.

        :param following: the test that comes next here.
        :param only_session: it is not known, but there may be one.
        :param failures_left: how many failures end the run, 0 if none does.
        """
        item = self._items.get(nodeid)
        if item is None:
            self._channel.send("missing", text=self._missing(nodeid))
            return
        session = self._session
        self._tear_down(item)
        nextitem: Any = session if only_session else self._items.get(following or "")
        # The session then tears down everything with the test that is the last: only so a failure of that is reported.
        session.config.option.maxfail = session.testsfailed + failures_left if failures_left else 0
        try:
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
        except pytest.exit.Exception as exc:
            self._channel.send("exit", reason=exc.msg, returncode=exc.returncode)
            raise
        except KeyboardInterrupt:
            self._channel.send("interrupted")
            raise
        self._flush()
        self._channel.send("done", shouldstop=session.shouldstop, shouldfail=session.shouldfail)

    def _missing(self, nodeid: str) -> str:
        file, _, _ = nodeid.partition("::")
        text = f"the {self._name} host did not find this test when it collected {file}"
        broken = [reason for node, reason in self._broken.items() if nodeid.startswith(node)]
        if broken:
            return f"{text}, which failed there:\n" + "\n".join(broken)
        return (
            f"{text}. Its name must be the same in every process: it is not where the name contains an address, "
            "a time, a random number or what is in the environment."
        )

    def _tear_down(self, item: pytest.Item | None) -> None:
        """Tear down what a test does not need: what is left if another came next than was expected."""
        state = self._session._setupstate
        needed = [] if item is None else item.listchain()
        if all(node in needed for node in state.stack):
            return
        try:
            state.teardown_exact(item)
        except (Exception, OutcomeException, BaseExceptionGroup) as exc:  # noqa: BLE001 - it is a user's fixture
            self.problem = _without_pytest(exc)

    # -- what happens is told

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pass on a report."""
        self._flush()
        if report.failed and "EOFError" in report.longreprtext:
            report.sections.append(("Celery: the host", not_here("input from the terminal", self._name)))
        config = self._session.config
        data = config.hook.pytest_report_to_serializable(config=config, report=report)
        self._channel.send("report", report=data)

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: tuple[str, int, str] | None
    ) -> None:
        """Pass on the warnings of tests; those of the collection were shown by whoever collected first."""
        if when != "runtest":
            return
        from xdist.remote import serialize_warning_message

        message = serialize_warning_message(warning_message)
        self._channel.send("warning", message=message, when=when, nodeid=nodeid, location=location)

    def pytest_internalerror(self, excrepr: Any) -> None:
        """Pass on what went wrong in pytest or one of its plugins."""
        self._channel.send("broken", text=str(excrepr))

    def pytest_enter_pdb(self) -> None:
        """Refuse to wait for somebody who cannot answer."""
        pytest.fail(not_here("a debugger", self._name), pytrace=False)

    def _flush(self) -> None:
        """Keep what ``-s`` lets through in the order in which it happened."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):  # the test has closed or replaced it
                continue


def _without_pytest(exc: BaseException) -> str:
    """Return the traceback of a fixture from its own first frame on."""
    frames = exc.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(_OF_PYTEST):
        frames = frames.tb_next
    # Its context may be what ended the session.
    return "".join(traceback.format_exception(type(exc), exc, frames, chain=exc.__cause__ is not None)).rstrip()


def not_here(what: str, name: str) -> str:
    """Return the text that says how to run a hosted test where what it needs can reach it."""
    return (
        f"{what} cannot reach a test in the {name} host. Run that pool alone in one process: "
        f"python -m pytest_celerypool.host {name} <your pytest arguments>"
    )
