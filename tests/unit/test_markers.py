import pytest

from pytest_celerypool import markers
from pytest_celerypool.errors import MarkerError
from pytest_celerypool.markers import (
    AllowSpec,
    BudgetSpec,
    ExpectSpec,
    Limit,
    Markers,
    PoolsSpec,
    Ratio,
    matches,
    read,
    read_allow,
    read_budget,
    read_expect,
    read_pools,
    wants_worker,
)
from pytest_celerypool.pools import POOLS, parse_pools

PREFORK, SOLO, THREADS, GEVENT, EVENTLET = POOLS
POOL_NAMES = "Valid pools: prefork, solo, threads, gevent, eventlet, all, or pkg.module:TaskPool."
POOL_NAMES_AND_OWN = POOL_NAMES.replace("all, or", "all, own, or")


def mark(name, *args, **kwargs):
    # pytest.mark itself would refuse names that this run of pytest has not registered.
    return pytest.Mark(name, args, kwargs, _ispytest=True)


def pools(*args, **kwargs):
    return read_pools(mark("celery_pools", *args, **kwargs))


def expect(*args, **kwargs):
    return read_expect(mark("celery_expect", *args, **kwargs))


def budget(*args, **kwargs):
    return read_budget(mark("celery_budget", *args, **kwargs))


def allow(*args, **kwargs):
    return read_allow(mark("celery_allow", *args, **kwargs), ["pools-disagree"])


def message(reader, *args, **kwargs):
    with pytest.raises(MarkerError) as error:
        reader(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), {}, PoolsSpec()),
        (("gevent", "prefork"), {}, PoolsSpec(pools=(GEVENT, PREFORK))),
        (("gevent,prefork",), {}, PoolsSpec(pools=(GEVENT, PREFORK))),
        (("all",), {"exclude": "solo"}, PoolsSpec(pools=POOLS, exclude=(SOLO,))),
        ((), {"exclude": ["solo", "threads"]}, PoolsSpec(exclude=(SOLO, THREADS))),
        ((), {"exclude": ()}, PoolsSpec()),
        ((), {"launch": "subprocess"}, PoolsSpec(launch="subprocess")),
        ((), {"launch": "inprocess"}, PoolsSpec(launch="inprocess")),
        ((), {"launch": None}, PoolsSpec()),
        ((), {"concurrency": 4}, PoolsSpec(concurrency=4)),
        ((), {"concurrency": [1, 100, 1]}, PoolsSpec(concurrency=(1, 100))),
        ((), {"concurrency": "sweep"}, PoolsSpec(concurrency="sweep")),
        ((), {"fresh": True}, PoolsSpec(fresh=True)),
        ((), {"options": ("-Q", "mail")}, PoolsSpec(options=("-Q", "mail"))),
        ((), {"options": ["-Ofair"]}, PoolsSpec(options=("-Ofair",))),
        (
            (),
            {"options": "-Q 'mail,high prio' --time-limit=3"},
            PoolsSpec(options=("-Q", "mail,high prio", "--time-limit=3")),
        ),
        ((), {"options": ""}, PoolsSpec()),
    ],
)
def test_pools(args, kwargs, expected):
    """`celery_pools` says which pools and what kind of worker."""
    assert pools(*args, **kwargs) == expected


CONCURRENCY = 'Valid: a whole number above 0, a list of such, or "sweep".'
WORDS = 'Valid: words of the `celery worker` command line, as in ("-Q", "mail").'


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        (("gevnt",), {}, f"celery_pools: 'gevnt' is not a pool. {POOL_NAMES_AND_OWN} Did you mean 'gevent'?"),
        ((3,), {}, "celery_pools: (3,) is not valid. Valid: names of pools, each a string."),
        (
            (["prefork"],),
            {},
            "celery_pools: (['prefork'],) is not valid. Valid: names of pools, each a string.",
        ),
        (
            (),
            {"exclude": "sol"},
            f"celery_pools: exclude: 'sol' is not a pool. {POOL_NAMES_AND_OWN} Did you mean 'solo'?",
        ),
        (
            (),
            {"exclude": 3},
            "celery_pools: exclude=3 is not valid. Valid: the name of a pool, or a tuple of names.",
        ),
        (
            (),
            {"excludes": "solo"},
            "celery_pools: there is no argument 'excludes'. Valid arguments: exclude, launch, concurrency, "
            "fresh, "
            "options. Did you mean 'exclude'?",
        ),
        (
            (),
            {"launch": "subproces"},
            "celery_pools: launch='subproces' is not valid. Valid: 'subprocess' or 'inprocess'. "
            "Did you mean 'subprocess'?",
        ),
        ((), {"concurrency": 0}, f"celery_pools: concurrency=0 is not valid. {CONCURRENCY}"),
        ((), {"concurrency": True}, f"celery_pools: concurrency=True is not valid. {CONCURRENCY}"),
        ((), {"concurrency": "4"}, f"celery_pools: concurrency='4' is not valid. {CONCURRENCY}"),
        (
            (),
            {"concurrency": "sweeep"},
            f"celery_pools: concurrency='sweeep' is not valid. {CONCURRENCY} Did you mean 'sweep'?",
        ),
        ((), {"concurrency": []}, f"celery_pools: concurrency=[] is not valid. {CONCURRENCY}"),
        ((), {"concurrency": [1, -1]}, f"celery_pools: concurrency=[1, -1] is not valid. {CONCURRENCY}"),
        ((), {"fresh": 1}, "celery_pools: fresh=1 is not valid. Valid: True or False."),
        ((), {"options": 3}, f"celery_pools: options=3 is not valid. {WORDS}"),
        ((), {"options": ("-l", 3)}, f"celery_pools: options=('-l', 3) is not valid. {WORDS}"),
        (
            (),
            {"options": "-Q 'mail"},
            'celery_pools: options="-Q \'mail" cannot be split into words: No closing quotation.',
        ),
    ],
)
def test_pools_refused(args, kwargs, text):
    """A wrong argument of `celery_pools` is named with what is valid."""
    assert message(pools, *args, **kwargs) == text


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("-Pgevent", "the pool is the axis that the test runs on: name it in the marker"),
        ("--pool=gevent", "the pool is the axis that the test runs on: name it in the marker"),
        ("-c", "use the argument concurrency= of the marker"),
        ("--concurrency=4", "use the argument concurrency= of the marker"),
        ("-A", "the application comes from --celery-app or the celery_pool_app fixture"),
        ("--app", "the application comes from --celery-app or the celery_pool_app fixture"),
        ("-n", "every worker has a name of its own, by which the test reaches it"),
        ("--hostname=w1", "every worker has a name of its own, by which the test reaches it"),
        ("-D", "a detached worker could be neither watched nor stopped"),
        ("--detach", "a detached worker could be neither watched nor stopped"),
        ("-b", "the broker comes from --celery-broker"),
        ("--broker=redis://", "the broker comes from --celery-broker"),
        ("--result-backend=rpc://", "the result backend comes from --celery-backend"),
        ("--purge", "it would remove what the test has published"),
        ("--discard", "it would remove what the test has published"),
        ("-f", "the log is read for the test's report and the handle's log"),
        ("--logfile=x", "the log is read for the test's report and the handle's log"),
        ("--pidfile=x", "workers run side by side and would share the file"),
    ],
)
def test_owned_options_refused(word, reason):
    """What the plugin itself puts on the command line is refused, and the reason says what to do."""
    assert message(pools, options=["-E", word]) == f"celery_pools: options cannot hold {word!r}: {reason}."


@pytest.mark.parametrize("options", ["-Q mail", "-l debug", "-E", "--prefetch-multiplier=1", "-B", "--autoscale=4,1"])
def test_free_options(options):
    """Every other option of the worker is passed on."""
    assert pools(options=options).options == tuple(options.split())


@pytest.mark.parametrize(
    ("spec", "chosen", "expected"),
    [
        (PoolsSpec(), None, "prefork"),
        (PoolsSpec(pools=(GEVENT, SOLO)), None, "gevent,solo"),
        (PoolsSpec(exclude=(PREFORK,)), None, ""),
        (PoolsSpec(pools=(GEVENT, SOLO), exclude=(SOLO,)), None, "gevent"),
        (PoolsSpec(), "solo,gevent", "solo,gevent"),
        (PoolsSpec(pools=(GEVENT, SOLO)), "all", "solo,gevent"),
        (PoolsSpec(pools=(GEVENT, SOLO)), "prefork", ""),
        (PoolsSpec(exclude=(GEVENT, EVENTLET)), "all", "prefork,solo,threads"),
    ],
)
def test_select(spec, chosen, expected):
    """The marker decides where nobody chose pools, and narrows the run's choice, in the run's order, else."""
    selected = spec.select(None if chosen is None else parse_pools(chosen, "x"), (PREFORK,))
    assert ",".join(map(str, selected)) == expected


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, ExpectSpec(state="SUCCESS")),
        ({"tasks": "proj.*"}, ExpectSpec(state="SUCCESS", tasks="proj.*")),
        ({"pools": "gevent"}, ExpectSpec(state="SUCCESS", pools=(GEVENT,))),
        ({"pools": ["solo", "prefork"]}, ExpectSpec(state="SUCCESS", pools=(SOLO, PREFORK))),
        ({"agree": False}, ExpectSpec(state="SUCCESS")),
        ({"state": "FAILURE"}, ExpectSpec(state="FAILURE")),
        ({"retries": 0}, ExpectSpec(retries=0)),
        ({"executions": 3}, ExpectSpec(executions=3)),
        ({"agree": True}, ExpectSpec(agree=("state", "retries", "exception", "result"))),
        ({"agree": ("result", "state")}, ExpectSpec(agree=("state", "result"))),
        ({"agree": "state"}, ExpectSpec(agree=("state",))),
        ({"state": "REVOKED", "retries": 2}, ExpectSpec(state="REVOKED", retries=2)),
        ({"worker": "cpu", "tasks": "proj.*"}, ExpectSpec(worker="cpu", tasks="proj.*")),
    ],
)
def test_expect(kwargs, expected):
    """Only what is given is expected, and success if nothing is."""
    assert expect(**kwargs) == expected


STATES = "SUCCESS, FAILURE, REVOKED, REJECTED"
FIELDS = "Valid: True, or a tuple of state, retries, exception, result."
PATTERN = 'Valid: a pattern for the names of tasks, as in "proj.tasks.*".'
NAME = 'Valid: the name of a worker of the test\'s cluster, as in worker="cpu".'


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        (
            {"stat": "SUCCESS"},
            "there is no argument 'stat'. Valid arguments: state, retries, executions, agree, worker, tasks, "
            "pools. Did you mean 'state'?",
        ),
        ({"state": "SUCESS"}, f"state='SUCESS' is not valid. Valid: {STATES}. Did you mean 'SUCCESS'?"),
        ({"state": "failure"}, f"state='failure' is not valid. Valid: {STATES}. Did you mean 'FAILURE'?"),
        ({"state": 3}, f"state=3 is not valid. Valid: {STATES}."),
        (
            {"state": "RETRY"},
            "RETRY is not an end: another execution of the same task follows. Use retries=, and the state "
            "that "
            f"the last one ends with. Valid states: {STATES}.",
        ),
        (
            {"state": "IGNORED"},
            "IGNORED is not an end: the task has handed over to another under the same id. Use the state "
            "that the "
            f"other ends with. Valid states: {STATES}.",
        ),
        ({"retries": -1}, "retries=-1 is not valid. Valid: a whole number, at least 0."),
        ({"retries": True}, "retries=True is not valid. Valid: a whole number, at least 0."),
        ({"retries": "2"}, "retries='2' is not valid. Valid: a whole number, at least 0."),
        ({"executions": 0}, "executions=0 is not valid. Valid: a whole number, at least 1."),
        ({"executions": 1.0}, "executions=1.0 is not valid. Valid: a whole number, at least 1."),
        ({"agree": "results"}, f"agree='results' is not valid. {FIELDS} Did you mean 'result'?"),
        ({"agree": ()}, f"agree=() is not valid. {FIELDS}"),
        ({"agree": 1}, f"agree=1 is not valid. {FIELDS}"),
        ({"agree": (3,)}, f"agree=(3,) is not valid. {FIELDS}"),
        ({"worker": ""}, f"worker='' is not valid. {NAME}"),
        ({"worker": ["cpu"]}, f"worker=['cpu'] is not valid. {NAME}"),
        ({"tasks": ""}, f"tasks='' is not valid. {PATTERN}"),
        ({"tasks": None}, f"tasks=None is not valid. {PATTERN}"),
        ({"pools": "gevnt"}, f"pools: 'gevnt' is not a pool. {POOL_NAMES} Did you mean 'gevent'?"),
        ({"pools": ()}, f"pools: no pool is given. {POOL_NAMES}"),
        ({"pools": 1}, "pools=1 is not valid. Valid: the name of a pool, or a tuple of names."),
    ],
)
def test_expect_refused(kwargs, text):
    """A wrong argument of `celery_expect` is named with what is valid."""
    assert message(expect, **kwargs) == f"celery_expect: {text}"


def test_expect_takes_names():
    """A positional argument is refused, and the message shows how it may have been meant."""
    assert message(expect, "FAILURE") == (
        "celery_expect: 'FAILURE' has to be given by the name of its argument, as in state='FAILURE'."
    )
    assert message(budget, "200ms") == (
        "celery_budget: '200ms' has to be given by the name of its argument, as in runtime='200ms'."
    )


@pytest.mark.parametrize(
    ("kwargs", "limits"),
    [
        ({"runtime": "200ms"}, {"runtime": Limit(0.2, "200ms")}),
        ({"total": 2}, {"total": Limit(2, "2 s")}),
        ({"hold": 0.05}, {"hold": Limit(0.05, "0.05 s")}),
        ({"memory": "20MiB"}, {"memory": Limit(20 * 2**20, "20MiB")}),
        ({"memory": 2**20}, {"memory": Limit(2**20, "1.0 MiB")}),
        ({"memory": 0}, {"memory": Limit(0, "0 B")}),
        ({"throughput": 50}, {"throughput": Limit(50, "50 tasks/s")}),
        ({"overlap": 3}, {"overlap": Limit(3, "3")}),
        ({"makespan": "2min", "cpu": None}, {"makespan": Limit(120, "2min")}),
        ({"cpu": 1, "queued": 2}, {"queued": Limit(2, "2 s"), "cpu": Limit(1, "1 s")}),
    ],
)
def test_budget(kwargs, limits):
    """Each limit is read in its unit and shown as it was written."""
    spec = budget(**kwargs)
    assert spec == BudgetSpec(limits)
    assert list(spec.limits) == list(limits)


def test_budget_narrowed():
    """Percentile, tasks and pools narrow what the limits speak of."""
    assert budget(runtime=1, percentile=95, tasks="a.*", pools="solo") == BudgetSpec(
        {"runtime": Limit(1, "1 s")}, 95.0, "a.*", (SOLO,)
    )


@pytest.mark.parametrize(
    ("kwargs", "timed"),
    [
        ({"runtime": 1}, True),
        ({"throughput": 1}, True),
        ({"memory": 1}, False),
        ({"memory": 1, "overlap": 1}, False),
    ],
)
def test_budget_timed(kwargs, timed):
    """A budget of memory and overlap alone does not depend on the speed of the machine."""
    assert budget(**kwargs).timed is timed


def test_lower_bounds():
    """Throughput and overlap must not fall below their limit."""
    assert frozenset({"throughput", "overlap"}) == markers.LOWER_BOUNDS


MEASURES = "runtime, queued, total, cpu, hold, memory, throughput, overlap, makespan"
SECONDS = 'Valid: above 0, seconds, or a string such as "300us", "200ms", "1.5s", "2min" or "1h".'
BYTES = 'Valid: bytes, or a string such as "100kB", "5MB", "20MiB" or "1GiB".'


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({}, f"no limit is given. Valid limits: {MEASURES}."),
        ({"runtime": None, "percentile": 95}, f"no limit is given. Valid limits: {MEASURES}."),
        (
            {"run_time": 1},
            f"there is no argument 'run_time'. Valid arguments: {MEASURES}, percentile, tasks, pools, confirm. "
            "Did you mean 'runtime'?",
        ),
        ({"runtime": "200"}, f"runtime='200' is not valid. {SECONDS}"),
        ({"runtime": 0}, f"runtime=0 is not valid. {SECONDS}"),
        ({"queued": True}, f"queued=True is not valid. {SECONDS}"),
        ({"makespan": -1}, f"makespan=-1 is not valid. {SECONDS}"),
        ({"memory": "20M"}, f"memory='20M' is not valid. {BYTES}"),
        ({"throughput": 0}, "throughput=0 is not valid. Valid: tasks a second, a number above 0."),
        ({"throughput": "5/s"}, "throughput='5/s' is not valid. Valid: tasks a second, a number above 0."),
        ({"overlap": 0}, "overlap=0 is not valid. Valid: tasks in flight, a whole number above 0."),
        ({"overlap": 1.5}, "overlap=1.5 is not valid. Valid: tasks in flight, a whole number above 0."),
        ({"runtime": 1, "percentile": 0}, "percentile=0 is not valid. Valid: a number above 0, at most 100."),
        (
            {"runtime": 1, "percentile": "p95"},
            "percentile='p95' is not valid. Valid: a number above 0, at most 100.",
        ),
        ({"runtime": 1, "tasks": 3}, f"tasks=3 is not valid. {PATTERN}"),
    ],
)
def test_budget_refused(kwargs, text):
    """A wrong argument of `celery_budget` is named with what is valid."""
    assert message(budget, **kwargs) == f"celery_budget: {text}"


EXAMPLE = 'as in {"ratio_to": "solo", "at_most": 1.2}'


def test_budget_relative():
    """A relative limit stands beside absolute ones."""
    spec = budget(
        runtime={"ratio_to": "solo", "at_most": 1.2}, makespan="1s", throughput={"ratio_to": "solo", "at_least": 2}
    )
    assert list(spec.limits) == ["makespan"]
    assert spec.ratios == {
        "runtime": Ratio(SOLO, at_most=1.2),
        "throughput": Ratio(SOLO, at_least=2.0),
    }
    assert spec.timed
    assert set(spec.measures) == {"makespan", "runtime", "throughput"}


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (
            {"ratio_too": "solo", "at_most": 1},
            f"runtime: there is no key 'ratio_too'. Valid keys: ratio_to, at_most, at_least, {EXAMPLE}. "
            "Did you mean 'ratio_to'?",
        ),
        ({"at_most": 1}, f"runtime={{'at_most': 1}} is not valid. Valid: a pool to compare with, {EXAMPLE}."),
        (
            {"ratio_to": "all", "at_most": 1},
            "runtime: ratio_to: 'all' is a list of pools, and one is wanted. Valid pools: prefork, solo, threads, "
            "gevent, eventlet, or pkg.module:TaskPool.",
        ),
        (
            {"ratio_to": "solo"},
            "runtime={'ratio_to': 'solo'} is not valid. Valid: at_most or at_least, or both, each a number above 0, "
            f"{EXAMPLE}.",
        ),
        (
            {"ratio_to": "solo", "at_most": "2"},
            "runtime={'ratio_to': 'solo', 'at_most': '2'} is not valid. Valid: at_most or at_least, or both, each a "
            f"number above 0, {EXAMPLE}.",
        ),
        (
            {"ratio_to": "solo", "at_most": 1, "at_least": 2},
            "runtime={'ratio_to': 'solo', 'at_most': 1, 'at_least': 2} is not valid. Valid: at_least that is not above "
            "at_most.",
        ),
    ],
)
def test_budget_relative_refused(limit, text):
    """A wrong relative limit is named with what is valid."""
    assert message(budget, runtime=limit) == f"celery_budget: {text}"


def test_budget_relative_to_what_is_no_pool():
    text = message(budget, runtime={"ratio_to": "sollo", "at_most": 1})
    assert text.startswith("celery_budget: runtime: ratio_to: 'sollo' is not a pool. Valid pools: ")
    assert text.endswith("Did you mean 'solo'?")


def test_budget_relative_that_compares_nothing():
    """A pool is not compared with itself, and no hub with one that is none."""
    limit = {"ratio_to": "solo", "at_most": 1}
    assert "would be compared with itself" in message(budget, runtime=limit, pools=["solo"])
    assert "only green pools have a hub" in message(budget, hold=limit)


def test_allow():
    """`celery_allow` holds the kinds, once each, and why."""
    assert allow("pools-disagree", "pools-disagree", pools="gevent", reason="issue 7") == AllowSpec(
        ("pools-disagree",), (GEVENT,), "issue 7"
    )


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {"reason": "x"}, "no kind of finding is given. Valid kinds: pools-disagree."),
        (
            ("pool-disagree",),
            {"reason": "x"},
            "'pool-disagree' is not a kind of finding. Valid kinds: pools-disagree. Did you mean 'pools-disagree'?",
        ),
        ((3,), {"reason": "x"}, "3 is not a kind of finding. Valid kinds: pools-disagree."),
        (
            ("pools-disagree",),
            {},
            "reason=None is not valid. Valid: a text that says why this is all right here.",
        ),
        (
            ("pools-disagree",),
            {"reason": " "},
            "reason=' ' is not valid. Valid: a text that says why this is all right here.",
        ),
        (
            ("pools-disagree",),
            {"why": "x"},
            "there is no argument 'why'. Valid arguments: pools, reason.",
        ),
    ],
)
def test_allow_refused(args, kwargs, text):
    """A wrong argument of `celery_allow` is named with what is valid."""
    assert message(allow, *args, **kwargs) == f"celery_allow: {text}"


@pytest.mark.parametrize(
    ("pattern", "task", "expected"),
    [
        ("*", "proj.add", True),
        ("*", "celery.chord_unlock", False),
        ("celery.*", "celery.chord_unlock", True),
        ("*unlock", "celery.chord_unlock", True),
        ("proj.*", "proj.add", True),
        ("proj.*", "other.add", False),
        ("proj.Add", "proj.add", False),
        ("proj.add", "proj.add", True),
    ],
)
def test_matches(pattern, task, expected):
    """`*` leaves out Celery's own tasks, which another pattern can name."""
    assert matches(pattern, task) is expected


def test_read_levels(pytester, monkeypatch):
    """The closest `celery_pools` wins entirely; expectations, budgets and allowances of all levels apply."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\nmarkers =\n celery_pools\n celery_expect\n celery_budget\n celery_allow")
    (item,) = pytester.getitems(
        """
        import pytest

        pytestmark = [pytest.mark.celery_pools("solo", fresh=True), pytest.mark.celery_expect(retries=0)]

        @pytest.mark.celery_budget(total=2)
        class TestTasks:
            @pytest.mark.celery_pools("gevent")
            @pytest.mark.celery_expect
            @pytest.mark.celery_budget(runtime=1)
            @pytest.mark.celery_allow("pools-disagree", reason="known")
            def test_func(self):
                pass
        """
    )
    found = read(lambda name: item.iter_markers(name), ["pools-disagree"])
    assert found.pools == PoolsSpec(pools=(GEVENT,))
    assert found.expects == (ExpectSpec(state="SUCCESS"), ExpectSpec(retries=0))
    assert [list(each.limits) for each in found.budgets] == [["runtime"], ["total"]]
    assert found.allows == (AllowSpec(("pools-disagree",), None, "known"),)


def test_read_nothing():
    """A test without our markers has an empty specification and no worker."""
    assert read(lambda name: (), ()) == Markers()
    assert not wants_worker(lambda name: ())


@pytest.mark.parametrize(
    ("name", "expected"),
    [("celery_pools", True), ("celery_expect", True), ("celery_budget", True), ("celery_allow", False)],
)
def test_wants_worker(name, expected):
    """The first three markers give a test a worker, even where their arguments are wrong."""
    marks = {name: [mark(name, nonsense=1)]}
    assert wants_worker(lambda asked: marks.get(asked, [])) is expected


def test_marker_lines(pytester, monkeypatch):
    """pytest --markers shows the signature of each marker and what it does."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(
        """
        from pytest_celerypool.surface import MARKERS

        def pytest_configure(config):
            for line in MARKERS:
                config.addinivalue_line("markers", line)
        """
    )
    pytester.runpytest("--markers").stdout.fnmatch_lines(
        [
            "@pytest.mark.celery_pools(?pools, exclude=(), launch=None, concurrency=None, fresh=False, "
            "options=()): run the test *",
            "@pytest.mark.celery_expect(state=None, retries=None, executions=None, agree=None, worker=None, "
            "tasks='?', pools=None): demand *",
            "@pytest.mark.celery_budget(runtime=..., queued=..., *, percentile=100, *, confirm=None): limit *",
            "@pytest.mark.celery_allow(?kinds, pools=None, reason=...): *",
        ]
    )
