"""Beside the plugins that many suites have, both do their work: here, in a host, and in a worker of its own."""

import importlib.util

import pytest

APP = """
from celery import Celery
app = Celery("proj", broker="memory://", backend="cache+memory://")

@app.task
def add(x, y):
    return x + y
"""

#: A test of ours and one of contrib's, which every run has.
COMMON = """
import pytest
from proj import add

def test_ours(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 2) == 3

@pytest.fixture
def double(celery_app):
    @celery_app.task(name="double", shared=False)
    def double(number):
        return 2 * number
    return double

def test_contribs(double, celery_worker):
    assert double.delay(21).get(timeout=10) == 42
"""

#: Plugin to the module that pytest loads, further options, and a test that uses it.
NEIGHBOURS = {
    "anyio": (
        ("anyio.pytest_plugin",),
        (),
        """
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_theirs(anyio_backend, celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 1) == 2
""",
    ),
    "pytest_asyncio": (
        ("pytest_asyncio.plugin",),
        ("--asyncio-mode=strict",),
        """
@pytest.mark.asyncio
async def test_theirs(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 1) == 2
""",
    ),
    "pytest_celery_utils": (
        ("pytest_celery_utils",),
        (),
        """
def test_theirs(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 1) == 2
""",
    ),
    "pytest_cov": (
        ("pytest_cov.plugin",),
        ("--cov=proj", "--cov-report="),
        """
def test_theirs(cov, celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 1) == 2
""",
    ),
    "pytest_randomly": (
        ("pytest_randomly",),
        ("-p", "randomly"),
        """
import random
def test_theirs(celery_pool_worker):
    assert celery_pool_worker.run(add, random.randint(1, 1), 1) == 2
""",
    ),
    "pytest_rerunfailures": (
        ("pytest_rerunfailures",),
        (),
        """
seen = []
@pytest.mark.flaky(reruns=2)
def test_theirs(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 1) == 2
    seen.append(str(celery_pool_worker.pool))
    assert seen.count(str(celery_pool_worker.pool)) == 2
""",
    ),
    "pytest_subtests": (
        ("pytest_subtests.plugin",),
        (),
        """
def test_theirs(subtests, celery_pool_worker):
    for number in range(3):
        with subtests.test(number=number):
            assert celery_pool_worker.run(add, number, 1) == number + 1
""",
    ),
    "pytest_timeout": (
        ("pytest_timeout",),
        ("--timeout=60",),
        """
def test_theirs(celery_pool_worker):
    assert celery_pool_worker.run(add, 1, 1) == 2
""",
    ),
}


@pytest.mark.gate("pytest_asyncio-inprocess")
@pytest.mark.parametrize("launch", [pytest.param("subprocess", marks=pytest.mark.slow), "inprocess"])
@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_both_do_their_work(project, neighbour, launch):
    if importlib.util.find_spec(neighbour) is None:
        pytest.skip(f"{neighbour} is not installed")
    plugins, options, test = NEIGHBOURS[neighbour]
    if neighbour == "pytest_subtests" and hasattr(pytest, "Subtests"):
        plugins = ()  # part of pytest since 9
    options = [option for option in options if option not in ("-p", "randomly")]
    project.write(proj=APP, test_it=COMMON + test)
    loaded = [word for plugin in (*plugins, "celery.contrib.pytest") for word in ("-p", plugin)]
    pools = ["threads", "gevent"]
    ended = project.run(
        *loaded, "--celery-app=proj:app", f"--celery-pools={','.join(pools)}", f"--celery-launch={launch}", *options
    )
    passed = {name.partition("[")[0]: 0 for name in ended.outcomes()}
    for name, outcome in ended.outcomes().items():
        assert outcome in ("passed", "rerun"), ended.output
        passed[name.partition("[")[0]] += 1
    assert passed == {"test_ours": 2, "test_contribs": 2, "test_theirs": 2}, ended.output
    assert ended.status == 0, ended.output
    assert not project.remains()


def test_what_pytest_celery_defines_of_the_same_name_stays_its_own(project):
    """Its fixtures ``celery_worker`` and others start containers: a suite for it is not contrib's."""
    pytest.importorskip("pytest_celery")
    project.write(
        proj=APP,
        test_it="""
        from proj import add

        def test_ours(celery_pool_worker):
            assert celery_pool_worker.run(add, 1, 2) == 3

        def test_theirs(request):
            assert request._fixturemanager.getfixturedefs("celery_worker", request.node) is not None
        """,
    )
    ended = project.run("-p", "pytest_celery.plugin", "--celery-app=proj:app", "--celery-pools=threads,solo")
    assert ended.outcomes() == {"test_ours[threads]": "passed", "test_ours[solo]": "passed", "test_theirs": "passed"}
