"""Marks that are not a function's own: which tests there are, and what is said of them; no worker is started here."""

import pytest

HEAD = "import unittest\nimport pytest\nfrom pytest import mark, param\npools = mark.celery_pools\n"

#: Adds the mark in a function's first line, a comment, to its tests when they have been collected.
ADDS = """
import inspect
import pytest
from pytest import mark
pools = mark.celery_pools

@pytest.hookimpl({})
def pytest_collection_modifyitems(items):
    for item in items:
        source = inspect.getsource(item.obj)
        if "# later: " in source:
            item.add_marker(eval(source.partition("# later: ")[2].partition("\\n")[0]))
"""


def collected(pytester, *options):
    """The names of the tests, without the file's."""
    result = pytester.runpytest_inprocess("--collect-only", "-q", *options)
    assert result.ret == 0
    return sorted(line.rpartition("::")[2] for line in result.outlines if "::" in line)


@pytest.mark.parametrize(
    ("test", "of_solo_threads", "of_nobody"),
    [
        (
            "@mark.parametrize('x', [param(1, marks=pools('threads')), param(2, marks=pools(exclude=['solo'])), 3])\n"
            "def test(x, celery_pool): pass",
            ["solo-3", "threads-1", "threads-2", "threads-3"],
            ["prefork-2", "prefork-3", "threads-1"],
        ),
        (
            "@mark.parametrize('x', [param(1, marks=pools('threads')), param(2, marks=mark.celery_expect), 3])\n"
            "def test(x): pass",
            ["1-threads", "2-solo", "2-threads", "3"],
            ["1-threads", "2-prefork", "3"],
        ),
        (
            "@mark.parametrize('x', [param(1, marks=pools('threads', concurrency=[1, 2])), 2])\n"
            "def test(x, celery_pool): pass",
            ["solo-2", "threads-1-1", "threads-2-1", "threads-2"],
            ["prefork-2", "threads-1-1", "threads-2-1"],
        ),
        (
            "@pools('solo')\n@mark.parametrize('x', [param(1, marks=pools('threads')), 2])\ndef test(x): pass",
            ["solo-2", "threads-1"],
            ["solo-2", "threads-1"],
        ),
        (
            "@mark.parametrize('y', [param(1, marks=pools('solo')), 2])\n"
            "@mark.parametrize('x', [param(3, marks=mark.celery_expect), 4])\n"
            "def test(x, y, celery_pool): pass",
            ["solo-3-1", "solo-3-2", "solo-4-1", "solo-4-2", "threads-3-2", "threads-4-2"],
            ["prefork-3-2", "prefork-4-2", "solo-3-1", "solo-4-1"],
        ),
        (
            "@pytest.fixture(params=[param('a', marks=pools('threads')), 'b'])\n"
            "def letter(request): return request.param\n"
            "def test(letter, celery_pool): pass",
            ["a-threads", "b-solo", "b-threads"],
            ["a-threads", "b-prefork"],
        ),
        (
            "def pytest_generate_tests(metafunc): metafunc.parametrize('x', [param(1, marks=pools('threads')), 2])\n"
            "def test(x, celery_pool): pass",
            ["1-threads", "2-solo", "2-threads"],
            ["1-threads", "2-prefork"],
        ),
        (
            "@pytest.fixture(params=[param('a', marks=pools('threads'))])\n"
            "def letter(request): return request.param\n"
            "@mark.parametrize('letter', ['c'])\n"
            "def test(letter, celery_pool): pass",
            ["solo-c", "threads-c"],
            ["prefork-c"],
        ),
        (
            "@mark.parametrize('x', [param(1, marks=pools('threads')), 2])\ndef test(x, celery_pool_cluster): pass",
            ["1", "2"],
            ["1", "2"],
        ),
    ],
    ids=[
        "fixture",
        "no fixture",
        "concurrencies",
        "nearer than the function",
        "two",
        "of a fixture",
        "of a hook",
        "fixture overridden",
        "cluster",
    ],
)
def test_a_parameter_set_has_a_worker_and_pools_by_its_own_marks(pytester, test, of_solo_threads, of_nobody):
    pytester.makepyfile(f"{HEAD}{test}\n")
    assert collected(pytester, "--celery-pools=solo,threads") == [f"test[{each}]" for each in of_solo_threads]
    assert collected(pytester) == [f"test[{each}]" for each in of_nobody]


@pytest.mark.parametrize("first", ["", "tryfirst=True"])
def test_a_mark_that_a_hook_adds_is_true_of_a_test_that_was_multiplied(pytester, first):
    pytester.makeconftest(ADDS.format(first))
    pytester.makepyfile(
        f"{HEAD}@pytest.fixture\ndef celery_pool_worker(): pass\n"
        "def test_it(celery_pool):\n    # later: pools('threads')\n    assert celery_pool.name == 'threads'\n"
    )
    result = pytester.runpytest_inprocess("--celery-pools=solo,threads", "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*celery_pools leaves out solo"])


def test_a_mark_that_a_hook_adds_chooses_no_other_pool_for_it_and_says_so(pytester):
    pytester.makeconftest(ADDS.format(""))
    pytester.makepyfile(f"{HEAD}def test_it(celery_pool):\n    # later: pools('threads')\n    pass\n")
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["SKIPPED*celery_pools leaves out prefork, and came too late to choose threads: put it on the function, or *"]
    )


def test_concurrencies_that_a_hook_adds_are_refused(pytester):
    pytester.makeconftest(ADDS.format(""))
    pytester.makepyfile(f"{HEAD}def test_it(celery_pool):\n    # later: pools(concurrency=[1, 2])\n    pass\n")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*::test_it*: celery_pools: concurrency=(1, 2) is an axis, and the mark came too late to make one. Put it on*"]
    )


def test_a_mark_that_comes_too_late_for_a_worker_fails_its_test(pytester):
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item):
            item.add_marker(pytest.mark.celery_expect)
        """
    )
    pytester.makepyfile("def test_it(): pass\ndef test_other(celery_pool): pass\n")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*::test_it: *celery_expect or celery_budget was added too late to give it a worker*"])


@pytest.mark.parametrize(
    "test",
    [
        "@pools('threads')\nclass TestCase(unittest.TestCase):\n    def test_it(self): assert 0\n",
        "class TestCase(unittest.TestCase):\n    @pools(exclude=['solo'])\n    def test_it(self): assert 0\n",
        "class TestCase(unittest.TestCase):\n"
        "    def test_it(self):\n        # later: pools('threads')\n        assert 0\n",
        "def test_it():\n    # later: pools('threads')\n    assert 0\n",
        "@mark.parametrize('x', [param(1, marks=pools('threads'))])\ndef test_it(x): assert 0\n",
        "@mark.parametrize('x', [param(1, marks=pools('threads'))])\ndef test_it(x, celery_pool): assert 0\n",
    ],
    ids=["class", "method", "later class", "later function", "parameter set", "multiplied"],
)
def test_what_its_own_mark_leaves_no_pool_is_skipped_with_the_reason(pytester, test):
    pytester.makeconftest(ADDS.format(""))
    pytester.makepyfile(f"{HEAD}{test}")
    result = pytester.runpytest_inprocess("--celery-pools=solo", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*celery_pools leaves none of the pools that this run chose"])


def test_a_wrong_mark_on_a_parameter_set_fails_that_alone_and_once(pytester):
    pytester.makepyfile(
        f"{HEAD}@mark.parametrize('x', [param(1, marks=pools('gevnt')), 2])\ndef test_pool(x, celery_pool): pass\n"
        "@mark.parametrize('x', [param(1, marks=pools('gevnt')), 2])\ndef test_it(x): pass\n"
    )
    result = pytester.runpytest_inprocess("--celery-pools=solo,threads")
    result.assert_outcomes(errors=2, passed=3)
    result.stdout.fnmatch_lines(["*::test_pool[[]solo-1]: celery_pools: 'gevnt' is not a pool.*"])
    result.stdout.fnmatch_lines(["*::test_it[[]1-solo]: celery_pools: 'gevnt' is not a pool.*"])


def test_a_pool_that_is_parametrised_by_hand_is_left_to_the_test(pytester):
    pytester.makepyfile(
        f"{HEAD}@mark.parametrize('celery_pool', ['threads'], indirect=True)\n@pools(fresh=True)\n"
        "def test_it(celery_pool, request):\n    assert str(celery_pool) == 'threads'\n"
        "@pytest.fixture\ndef celery_pool_worker(): pass\n"
    )
    pytester.runpytest_inprocess("--celery-pools=solo").assert_outcomes(passed=1)


def test_the_fixture_names_the_pool_of_each_test_case(pytester):
    pytester.makepyfile(
        f"""{HEAD}
class Base:
    @pytest.fixture(autouse=True)
    def pool(self, celery_pool):
        self.pool = str(celery_pool)

@pytest.fixture
def celery_pool_worker(): pass

class TestFirst(Base, unittest.TestCase):
    def test_it(self): assert self.pool == "solo"

@pools("gevent", "threads")
class TestSecond(Base, unittest.TestCase):
    def test_it(self): assert self.pool == "threads"

class TestThird(Base, unittest.TestCase):
    def test_it(self): assert self.pool == "solo"
"""
    )
    pytester.runpytest_inprocess("--celery-pools=solo,threads,gevent").assert_outcomes(passed=3)
