"""What the tests share: projects in a temporary folder, and real runs of pytest on them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

#: No run of a project in these tests may take longer, in seconds.
DEADLINE = 240

#: Writes every report of a run as a line of JSON, so that tests need not read them off the terminal.
RECORDER = """
import json, os

def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that this one belongs to hears of it too
    with open(os.environ["REPORTS"], "a") as file:
        file.write(json.dumps({
            "nodeid": report.nodeid, "when": report.when, "outcome": report.outcome, "text": report.longreprtext,
            "sections": report.sections, "properties": report.user_properties, "seconds": report.duration,
        }) + "\\n")
"""

#: What pytest and Celery of the caller are told must not decide here.
FOREIGN = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "PYTEST_XDIST_WORKER")


#: Files of which each takes minutes, and is all one node's: they begin first. Measured, not guessed: --junitxml.
LONGEST = ("test_bugs.py", "test_wrong.py", "test_code_blocks.py", "test_control.py", "test_contrib.py", "test_host.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Begin with what takes long; make slow what a test marked ``gate`` shows for other parameters than those."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    for item in items:
        for mark in item.iter_markers("gate"):
            if item.callspec.id not in mark.args:
                item.add_marker("slow")


@dataclass
class Run:
    """A run of pytest that has ended."""

    status: int
    output: str
    seconds: float
    reports: list = field(default_factory=list)

    def outcomes(self):
        """The outcome of each test: that of its call, unless another phase failed or skipped."""
        found = {}
        for report in self.reports:
            if report["when"] == "call" or report["outcome"] != "passed":
                found[report["nodeid"].partition("::")[2]] = report["outcome"]
        return found

    def failure(self, test):
        """The text of the failure of a test, with the sections that a reader sees below it."""
        texts = [
            "\n".join([report["text"], *(f"{title}\n{text}" for title, text in report["sections"])])
            for report in self.reports
            if report["nodeid"].endswith(f"::{test}") and report["outcome"] == "failed"
        ]
        assert texts, f"{test} did not fail:\n{self.output}"
        return texts[0]

    def property(self, test, name):
        """The values of a user property of a test."""
        return [
            value
            for report in self.reports
            if report["nodeid"].endswith(f"::{test}") and report["when"] == "call"
            for key, value in report["properties"]
            if key == name
        ]


class Project:
    """A Celery project in a folder of its own, on which pytest is run in a process of its own."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True)
        # Not below pytest's own, which is too deep for the path of a socket.
        self.temporary = Path(tempfile.mkdtemp(prefix="cp-", dir="/tmp"))
        self._reports = path / "reports.jsonl"
        (path / "recorder.py").write_text(RECORDER)
        (path / "pytest.ini").write_text("[pytest]\n")

    def write(self, **files):
        """Write files, given by their names with ``__`` for ``/`` and without ``.py``."""
        for name, text in files.items():
            file = self.path / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(text))
        return self

    def start(self, *arguments, environment=None):
        """Start pytest and return the process; its output goes to the file ``output``."""
        inherited = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        plugins = ["pytest_celerypool.plugin", "xdist.plugin", "recorder"]
        with (self.path / "output").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "pytest", *(f"-p{plugin}" for plugin in plugins), *map(str, arguments)],
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                env={
                    **inherited,
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                    "REPORTS": str(self._reports),
                    "TMPDIR": str(self.temporary),
                    "COLUMNS": "100",
                    **(environment or {}),
                },
            )

    def run(self, *arguments, environment=None, timeout=DEADLINE):
        """Run pytest to its end."""
        self._reports.unlink(missing_ok=True)
        began = time.monotonic()
        process = self.start(*arguments, environment=environment)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"pytest did not end in {timeout} s:\n{self.output()}")
        finally:
            kill_group(process.pid)
            process.wait(10)
        reports = self._reports.read_text().splitlines() if self._reports.exists() else []
        return Run(status, self.output(), time.monotonic() - began, [json.loads(line) for line in reports])

    def output(self):
        return (self.path / "output").read_text(errors="replace")

    def remains(self):
        """What a run left behind: processes that name this folder, and folders in its temporary folder."""
        files = [path.name for path in self.temporary.iterdir() if not path.name.startswith("pytest-of-")]
        return [*processes_naming(str(self.temporary)), *files]

    def close(self):
        """Remove what lies outside of pytest's own temporary folder."""
        shutil.rmtree(self.temporary, ignore_errors=True)


def kill_group(pgid):
    try:
        os.killpg(pgid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def processes_naming(text):
    """The command lines of the processes in which a text occurs."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if text in words:
            found.append(words)
    return found


def until(condition, seconds=20.0):
    """Wait until a condition holds; returns its value, or its last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return value


@pytest.fixture(name="until")
def _until():
    return until


@pytest.fixture
def case_project(tmp_path):
    """An empty project, for cases; where tests of servers have projects of their own kind too."""
    made = Project(tmp_path / "project")
    yield made
    made.close()


@pytest.fixture
def project(case_project):
    """An empty project."""
    return case_project


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory):
    """An empty project for all tests of a module, which look at one run of it."""
    made = Project(tmp_path_factory.mktemp("shared") / "project")
    yield made
    made.close()


@pytest.fixture
def pytester(pytester, monkeypatch):
    """pytest's own, with this plugin and xdist and nothing else that happens to be installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p pytest_celerypool.plugin -p xdist.plugin -p no:cacheprovider")
    monkeypatch.setenv("COLUMNS", "100")
    for name in FOREIGN[2:]:
        monkeypatch.delenv(name, raising=False)
    return pytester


@pytest.fixture(scope="session")
def root():
    """The folder of the checkout."""
    return Path(__file__).parent.parent
