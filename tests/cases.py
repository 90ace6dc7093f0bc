"""Small Celery projects, one a folder, and runs of pytest on them that tell which findings there were.

A folder has ``tasks.py``, a module that looks like a user's, ``test_naive.py``, and ``expected.toml``::

    source = "https://github.com/celery/celery/issues/1958"   # where it was reported, or "folklore"
    author = ["prefork"]      # the pools under which the naive test passes, without a finding of policy fail
    options = ["--celery-stress=4"]                            # further options of pytest; none by default
    pools = ["prefork", "gevent"]                              # pools to run; all by default
    also = ["state-left"]     # kinds that may be found too, under any pool
    kombu = "5.7"             # the version from which on the bug shows so soon; any by default

    [[finding]]
    kind = "hub-busy"
    pools = ["gevent", "eventlet"]                             # exactly those
    line = "while time.monotonic() < end"                      # part of a line of the evidence
"""

import json
import shutil
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

#: Writes the findings of a run, as plain data.
WRITER = """
import json, os

def pytest_unconfigure(config):
    from pytest_celerypool.keys import SUMMARY

    summary = config.stash.get(SUMMARY, None)
    if summary is not None and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(os.environ["FINDINGS"], "w") as file:
            json.dump(summary.findings.all(), file)
"""

ALL = ("prefork", "solo", "threads", "gevent", "eventlet")


@dataclass(frozen=True)
class Case:
    """One project and what is expected of it."""

    folder: Path
    source: str = ""
    author: tuple = ()
    options: tuple = ()
    pools: tuple = ALL
    also: tuple = ()
    kombu: str = ""
    findings: tuple = ()

    @property
    def name(self):
        return self.folder.name

    @classmethod
    def read(cls, folder):
        file = folder / "expected.toml"
        data = tomllib.loads(file.read_text()) if file.exists() else {}
        known = {"source", "author", "options", "pools", "also", "kombu"}
        assert set(data) <= known | {"finding"}, f"{file}: {set(data) - known}"
        return cls(
            folder, findings=tuple(data.get("finding", ())), **{key: _frozen(data[key]) for key in known & set(data)}
        )


def needs(case):
    """Skip where a case's bug cannot show."""
    import kombu

    if case.kombu and kombu.VERSION[:2] < tuple(map(int, case.kombu.split("."))):
        pytest.skip(f"{case.name} needs kombu {case.kombu}, this is {kombu.__version__}")


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def cases_in(folder):
    """The cases in a folder, by name."""
    return [Case.read(path) for path in sorted(folder.iterdir()) if (path / "tasks.py").exists()]


@dataclass
class Ran:
    """A run on a case."""

    run: object
    findings: list = field(default_factory=list)

    def pools(self, kind, policies=("fail", "warn")):
        return {each["pool"] for each in self.findings if each["kind"] == kind and each["policy"] in policies}

    def text(self):
        return "\n".join(
            f"{each['policy']} {each['kind']} {each['task']} under {each['pool']}: {each['message']}\n"
            f"{each['evidence']}\nfix: {each['remedy']}\n{each['tests']}\n"
            for each in self.findings
        )


def run_case(case, project, *options, timeout=240):
    """Run pytest on a copy of a case's project."""
    shutil.copytree(case.folder, project.path, dirs_exist_ok=True)
    (project.path / "findings_writer.py").write_text(WRITER)
    found = project.path / "findings.json"
    run = project.run(
        "-p",
        "findings_writer",
        f"--celery-pools={','.join(case.pools)}",
        "--celery-app=tasks:app",
        *options,
        *case.options,  # the last that is given counts: a case may be about one launch
        environment={"FINDINGS": str(found), "CASE_DIR": str(project.path)},
        timeout=timeout,
    )
    assert found.exists(), run.output
    return Ran(run, json.loads(found.read_text()))
