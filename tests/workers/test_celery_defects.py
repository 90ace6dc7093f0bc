"""The defects of Celery and kombu that the documentation lists are still there: else it has to be changed."""

import re
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "celery-suite.rst"

APP = """
import time
from celery import Celery
app = Celery("proj")
"""

#: Title of a section to the pools under which its reproduction fails, and those under which it passes.
DEFECTS = {
    "A wait of kombu's stops the hub of gevent": (["gevent"], ["eventlet"]),
    "A task that expires while it waits for a slot is run": (["threads", "gevent", "eventlet"], ["prefork", "solo"]),
}


def reproduction(title):
    """The tasks and the test below a title of the page."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n{title}\n")[2]
    block = re.search(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", section)
    return textwrap.dedent(block[1])


@pytest.mark.slow
@pytest.mark.parametrize("title", DEFECTS)
def test_the_reproduction_fails_under_the_pools_that_have_the_defect_alone(project, title):
    code = reproduction(title)
    assert len(code.strip().splitlines()) <= 15
    tasks, marker, test = code.partition("@pytest.mark")
    project.write(proj=APP + tasks, test_it="import pytest\nfrom proj import *\n\n" + marker + test)
    broken, whole = DEFECTS[title]
    ended = project.run("--celery-app=proj:app", f"--celery-pools={','.join([*broken, *whole])}")
    outcomes = {name.rpartition("[")[2].rstrip("]"): outcome for name, outcome in ended.outcomes().items()}
    assert outcomes == {**dict.fromkeys(broken, "failed"), **dict.fromkeys(whole, "passed")}, ended.output
