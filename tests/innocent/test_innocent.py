"""No innocent project of the collection is accused: no finding of policy fail, under any pool.

By default a few cases run; with ``CELERYPOOL_CASES=all`` in the environment all of them do. ``CELERYPOOL_ROUNDS`` says
how often each runs, ``CELERYPOOL_LOAD`` how many processes keep processors busy meanwhile, ``CELERYPOOL_LAUNCH`` where
the workers run.
"""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from cases import cases_in, run_case

CASES = cases_in(Path(__file__).parent)
ROUNDS = int(os.environ.get("CELERYPOOL_ROUNDS", "1"))
LOAD = int(os.environ.get("CELERYPOOL_LOAD", "0"))
LAUNCH = os.environ.get("CELERYPOOL_LAUNCH", "subprocess")

#: Of so many cases one runs by default.
EVERY = 30


@pytest.fixture(scope="module", autouse=True)
def load():
    """Keep processors busy."""
    with ExitStack() as stack:
        for _ in range(LOAD):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.mark.parametrize("number", range(ROUNDS))
@pytest.mark.parametrize(
    "case", CASES if os.environ.get("CELERYPOOL_CASES") == "all" else CASES[::EVERY], ids=lambda case: case.name
)
def test_nothing_is_accused(case, number, project):
    ran = run_case(case, project, f"--celery-launch={LAUNCH}")
    assert not [each for each in ran.findings if each["policy"] == "fail"], ran.text()
    outcomes = set(ran.run.outcomes().values())
    assert "passed" in outcomes, ran.run.output
    assert outcomes <= {"passed", "skipped"}, ran.run.output
