"""What pytest says of options, ini values and markers; no worker is started here."""

import importlib
import sys

import pytest

ALL = "prefork, solo, threads, gevent, eventlet"


@pytest.fixture
def suite(pytester):
    """A suite with one test that would have a worker and one that would not."""
    pytester.makepyfile(proj="from celery import Celery\napp = Celery('proj')\n")
    pytester.makepyfile(test_it="def test_worker(celery_pool_worker): pass\ndef test_plain(): pass\n")
    return pytester


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--celery-pools=gevnt", "--celery-pools: 'gevnt' is not a pool. Valid pools: *Did you mean 'gevent'?"),
        ("--celery-pools=", "--celery-pools: no pool is given. Valid pools: *"),
        ("--celery-concurrency=0", "--celery-concurrency: '0' is not a concurrency. Valid: *"),
        ("--celery-concurrency=many", "--celery-concurrency: 'many' is not a concurrency. Valid: *"),
        ("--celery-concurrency=gevnt=3", "--celery-concurrency: 'gevnt' is not a pool.*Did you mean 'gevent'?"),
        ("--celery-concurrency=100000", "--celery-concurrency: 100000 slots are too many for prefork*prefork=100000"),
        ("--celery-timeout=soon", "--celery-timeout: 'soon' is not a timeout. Valid: *"),
        ("--celery-broker=embeded", "--celery-broker: 'embeded' is neither*Did you mean 'embedded'?"),
        ("--celery-broker=memory://", "--celery-broker: memory:// is not a broker that tests can run on.*"),
        ("--celery-backend=nothing", "--celery-backend: 'nothing' is neither*"),
        ("--celery-app=proj app", "--celery-app: 'proj app' does not name an application. Valid: *"),
        (
            "--celery-app=nowhere:app",
            "--celery-app: there is no module 'nowhere' on the path*The root of the project is*",
        ),
    ],
)
@pytest.mark.parametrize("nodes", [(), ("-n1",)], ids=["", "xdist"])
def test_a_wrong_option_is_one_line_and_status_4(suite, option, message, nodes):
    result = suite.runpytest_inprocess(option, *nodes)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stderr.str()


NOWHERE = "there is no module 'nowhere' on the path*The root of the project is*"


@pytest.fixture
def suite_of_nowhere(suite, pytester):
    """A suite whose ini file names an application that is not there."""
    ini = pytester.path / "tox.ini"
    ini.write_text("[pytest]\ncelery_app = nowhere:app\n")
    return suite


def test_an_application_of_the_ini_file_whose_module_does_not_exist_is_one_line_and_status_4(suite_of_nowhere):
    result = suite_of_nowhere.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: celery_app in tox.ini: {NOWHERE}"])
    assert "Traceback" not in result.stderr.str()
    assert "internal" not in result.stdout.str().lower()


def test_under_xdist_each_test_says_it(suite_of_nowhere):
    """A node cannot stop the run, and the controller reads no conftest file of a folder of tests."""
    result = suite_of_nowhere.runpytest_inprocess("-n1")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([f"celery_app in tox.ini: {NOWHERE}"])


@pytest.mark.parametrize("arguments", [("-k", "plain"), ("--collect-only",)])
def test_an_application_of_the_ini_file_that_no_test_needs_is_not_looked_for(suite_of_nowhere, arguments):
    assert suite_of_nowhere.runpytest_inprocess(*arguments).ret == pytest.ExitCode.OK


def test_broken_modules_are_told_before_an_application_that_is_not_there(suite_of_nowhere):
    suite_of_nowhere.makepyfile(test_broken="1 / 0")
    result = suite_of_nowhere.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("celery_pools = gevnt", "celery_pools in tox.ini: 'gevnt' is not a pool.*Did you mean 'gevent'?"),
        ("celery_timeout = -1", "celery_timeout in tox.ini: '-1' is not a timeout.*"),
        ("celery_concurrency = 0", "celery_concurrency in tox.ini: '0' is not a concurrency.*"),
    ],
)
def test_a_wrong_ini_value_names_the_file(suite, line, message):
    suite.makeini(f"[pytest]\n{line}\n")
    result = suite.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])


def test_the_header_shows_every_value_and_where_it_came_from(suite):
    suite.makeini("[pytest]\ncelery_app = proj:app\ncelery_pools = solo gevent\n")
    result = suite.runpytest_inprocess("--celery-pools=solo,gevent", "--celery-timeout=3", "-k", "plain")
    result.stdout.fnmatch_lines(
        [
            "celery pools: solo, gevent (--celery-pools), concurrency default (default), celery 5*, kombu 5*, gevent *",
            "celery app: proj:app (celery_app in tox.ini; wins over the fixture celery_pool_app), "
            "launch: subprocess (default), broker: embedded (default), backend: embedded (default), "
            "timeout: 3 s (--celery-timeout)",
        ]
    )


def test_an_option_that_is_given_twice_counts_as_the_last(suite):
    result = suite.runpytest_inprocess("--celery-pools=solo", "--celery-pools=threads", "-k", "plain")
    result.stdout.fnmatch_lines(["celery pools: threads (--celery-pools)*"])


def test_a_password_is_not_shown(suite):
    result = suite.runpytest_inprocess("--celery-broker=amqp://me:secret@host//", "-k", "plain")
    result.stdout.fnmatch_lines(["*broker: amqp://me:[*][*][*]@host//*"])
    result.stdout.no_fnmatch_line("*secret*")


def test_without_a_choice_a_suite_sees_nothing_of_this_plugin(suite):
    result = suite.runpytest_inprocess("-k", "plain")
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.no_fnmatch_line("*celery pools*")


def test_windows_is_refused_where_pools_are_chosen(suite, monkeypatch):
    startup = importlib.import_module("pytest_celerypool.startup")
    config = suite.parseconfig("--celery-pools=solo")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(pytest.UsageError, match="runs on Linux and macOS"):
        startup.configure(config)


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("celery_pools('gevnt')", "celery_pools: 'gevnt' is not a pool.*Did you mean 'gevent'?"),
        ("celery_pools(concurency=3)", "celery_pools: there is no argument 'concurency'.*Did you mean 'concurrency'?"),
        ("celery_pools(concurrency=0)", "celery_pools: concurrency=0 is not valid. Valid: *"),
        ("celery_pools(launch='thread')", "celery_pools: launch='thread' is not valid. Valid: 'subprocess' or*"),
        ("celery_expect('SUCCESS')", "celery_expect: 'SUCCESS' has to be given by the name*as in state='SUCCESS'."),
        ("celery_expect(state='SUCESS')", "celery_expect: state='SUCESS' is not valid.*Did you mean 'SUCCESS'?"),
        ("celery_budget()", "celery_budget: no limit is given. Valid limits: *"),
        ("celery_budget(runtime='3 parsecs')", "celery_budget: runtime='3 parsecs' is not valid. Valid: *"),
        (
            "celery_allow('blocked-hubb', reason='x')",
            "celery_allow: 'blocked-hubb' is not a kind of finding. Valid kinds: *",
        ),
        ("celery_allow('pools-disagree')", "celery_allow: reason=None is not valid. Valid: a text*"),
    ],
)
def test_a_wrong_marker_fails_its_test_alone_and_once(pytester, marker, message):
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.{marker}\ndef test_bad(): pass\ndef test_good(): pass\n"
        "@pytest.fixture(scope='session')\ndef celery_pool_app(): raise AssertionError('not needed')\n"
    )
    result = pytester.runpytest_inprocess("--celery-pools=solo,gevent" if "allow" not in marker else "-v")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines([f"*::test_bad*: {message}"])
    result.stdout.no_fnmatch_line("*During handling*")


def test_a_test_that_no_pool_is_left_for_is_skipped_with_the_reason(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.celery_pools('gevent')\ndef test_it(): pass\n")
    result = pytester.runpytest_inprocess("--celery-pools=solo", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*celery_pools leaves none of the pools that this run chose"])


def test_a_pool_that_every_test_excludes_is_named_in_the_summary(pytester):
    pytester.makepyfile(
        "import pytest\n@pytest.mark.celery_pools(exclude=['solo'])\n@pytest.mark.skip\ndef test_it(): pass\n"
    )
    result = pytester.runpytest_inprocess("--celery-pools=solo,threads")
    result.stdout.fnmatch_lines(["solo: no test ran under it; every test that uses a worker excludes it"])


@pytest.mark.parametrize("selection", ["-k=threads", "-k=threads -n1", "test_it.py::test_it[threads]", "-p narrow"])
def test_a_pool_whose_tests_were_not_selected_is_not_said_to_be_excluded(pytester, selection):
    pytester.syspathinsert()
    pytester.makepyfile(
        test_it="import pytest\n@pytest.mark.celery_pools\n@pytest.mark.skip\ndef test_it(): pass\n",
        narrow="""
            def pytest_collection_modifyitems(config, items):
                config.hook.pytest_deselected(items=[items.pop(0)])
        """,
    )
    result = pytester.runpytest_inprocess("--celery-pools=solo,threads", *selection.split())
    result.stdout.fnmatch_lines(
        ["solo: no test ran under it; every test that uses a worker excludes it, or was not selected"]
    )


@pytest.mark.parametrize("stop", ["assert 0", "pytest.exit('enough')"])
def test_a_run_that_was_cut_short_says_nothing_of_the_pools_that_had_no_turn(pytester, stop):
    pytester.makepyfile(f"import pytest\ndef test_it(celery_pool): {stop}\ndef test_other(celery_pool): pass\n")
    result = pytester.runpytest_inprocess("-x", "--celery-pools=solo,threads")
    result.stdout.no_fnmatch_line("*no test*under it*")
    result.stdout.no_fnmatch_line("*no test used a worker*")


def test_pools_chosen_for_a_suite_without_workers_are_pointed_out(pytester):
    pytester.makepyfile("def test_it(): pass\n")
    result = pytester.runpytest_inprocess("--celery-pools=all")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"pools were chosen ({ALL}), and no test used a worker:*"])


def test_a_pool_whose_library_is_missing_is_skipped_with_what_to_install(pytester, monkeypatch):
    # Not "from pytest_celerypool import pools": the package's attribute may be one that an earlier run left.
    pools = importlib.import_module("pytest_celerypool.pools")
    monkeypatch.setattr(pools, "_findable", lambda module: module != "gevent")
    pytester.makepyfile("def test_it(celery_pool): pass\n")
    result = pytester.runpytest_inprocess("--celery-pools=gevent,solo", "-rs", "-v")
    result.assert_outcomes(skipped=1, passed=1)
    result.stdout.fnmatch_lines(["SKIPPED*gevent is not installed: pip install gevent"])


def test_pools_run_in_the_order_of_the_option(pytester):
    pytester.makepyfile("def test_a(celery_pool): pass\ndef test_b(celery_pool): pass\n")
    result = pytester.runpytest_inprocess("--celery-pools=threads,prefork", "--collect-only", "-q")
    assert result.outlines[:4] == [
        f"test_pools_run_in_the_order_of_the_option.py::test_{test}[{pool}]"
        for pool in ("threads", "prefork")
        for test in "ab"
    ]


def test_a_list_of_concurrencies_is_a_second_axis(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.celery_pools(concurrency=[1, 10])\ndef test_it(): pass\n")
    result = pytester.runpytest_inprocess("--celery-pools=gevent,threads", "--collect-only", "-q")
    assert [line.partition("[")[2] for line in result.outlines[:4]] == [
        "gevent-1]",
        "gevent-10]",
        "threads-1]",
        "threads-10]",
    ]


def test_without_a_choice_a_test_runs_under_the_pools_that_its_marker_names(pytester):
    pytester.makepyfile(
        "import pytest\n@pytest.mark.celery_pools('threads', 'solo')\ndef test_named(): pass\n"
        "def test_default(celery_pool): pass\n@pytest.mark.celery_expect\ndef test_marked(): pass\n"
    )
    result = pytester.runpytest_inprocess("--collect-only", "-q")
    assert {line.partition("::")[2] for line in result.outlines[:4]} == {
        "test_named[threads]",
        "test_named[solo]",
        "test_default[prefork]",
        "test_marked[prefork]",
    }


def test_parameters_of_the_test_itself_stay_apart_from_the_pool(pytester):
    pytester.makepyfile(
        "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_it(celery_pool, n): assert str(celery_pool)\n"
    )
    result = pytester.runpytest_inprocess("--celery-pools=gevent,threads", "-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["  test_it?1?  *ok       ok"])


def test_an_application_that_nobody_names_is_asked_for(pytester):
    pytester.makepyfile("def test_it(celery_pool_worker): pass\n")
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*does not know your application. Give --celery-app=MODULE:ATTR*"])


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("import nothing_like_it\n", ["*ModuleNotFoundError: No module named 'nothing_like_it'"]),
        ("1 / 0\n", ["*proj.py*line 1*", "*ZeroDivisionError*"]),
        ("import sys\nsys.exit('no settings')\n", ["*proj.py*line 2*", "SystemExit: no settings"]),
        ("other = 1\n", ["*has no attribute 'app'*"]),
        ("app = 'text'\n", ["*proj:app is 'text', not a Celery application.*"]),
    ],
)
def test_an_application_that_cannot_be_imported_shows_its_own_traceback(pytester, source, lines):
    pytester.makepyfile(proj=source, test_it="def test_it(celery_pool_worker): pass\n")
    result = pytester.runpytest_inprocess("--celery-app=proj:app")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--celery-app=proj:app: the application could not be imported:", *lines])
    result.stdout.no_fnmatch_line("*pytest_celerypool*startup.py*")


@pytest.mark.parametrize(
    ("argument", "lines"),
    [
        (
            "--markers",
            [f"@pytest.mark.celery_{name}(*" for name in ("pools", "expect", "budget", "allow")],
        ),
        (
            "--fixtures",
            [
                "celery_pool_app *",
                "*application under test*",
                "celery_pool [[]session scope[]]*",
                "celery_pool_worker -- *",
            ],
        ),
        ("--help", ["*--celery-pools=LIST*", "*--celery-timeout=SECONDS*"]),
    ],
)
def test_pytest_itself_tells_what_there_is(pytester, argument, lines):
    result = pytester.runpytest_inprocess(argument)
    result.stdout.fnmatch_lines(lines)


def test_collect_only_shows_no_summary(suite):
    result = suite.runpytest_inprocess("--celery-pools=all", "--collect-only")
    result.stdout.no_fnmatch_line("*= celery pools =*")


def test_no_fixture_or_marker_is_one_of_celerys_own():
    from celery.contrib import pytest as contrib

    from pytest_celerypool import plugin

    assert not {name for name in vars(contrib) if name.startswith("celery_")} & set(plugin.__all__)
