"""A test that its own process cannot hold runs in a host, and nobody can tell from what pytest says of it."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import pytest

HOSTS = ["gevent", "eventlet", "prefork"]
INPROCESS = (f"--celery-pools={','.join(HOSTS)}", "--celery-launch=inprocess")
GREEN = {"gevent": "gevent", "eventlet": "eventlet", "prefork": "socket"}

SUITE = """
import logging
import os
import socket
import sys
import threading
import time
import warnings
import pytest

@pytest.fixture(scope="session")
def session_life():
    print("session begins")
    yield object()
    print("session ends")

@pytest.fixture(scope="module")
def module_life(session_life):
    print("module begins")
    yield object()
    print("module ends")

@pytest.fixture
def facts(record_property, celery_pool, worker_id):
    record_property("pid", os.getpid())
    record_property("ppid", os.getppid())
    record_property("socket", socket.socket.__module__.partition(".")[0])
    record_property("worker", worker_id)
    record_property("environment", os.environ["PYTEST_XDIST_WORKER"])
    record_property("threads", len(os.listdir("/proc/self/task")) if os.path.exists("/proc") else 1)

def test_facts(facts, module_life, request):
    request.node.user_properties.append(("life", id(module_life)))

def test_facts_again(facts, module_life, request):
    request.node.user_properties.append(("life", id(module_life)))

def test_output(celery_pool):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("mine").warning("to the log")
    os.write(1, b"to the file\\n")
    assert str(celery_pool) == "none"

def test_error_in_setup(celery_pool, no_such_fixture):
    pass

def test_warns(celery_pool):
    warnings.warn("beware of the host", stacklevel=1)

def test_skips(celery_pool):
    pytest.skip("not today")

@pytest.mark.skip(reason="never")
def test_marked_skip(celery_pool):
    pass

@pytest.mark.xfail(reason="known")
def test_xfails(celery_pool):
    assert False

@pytest.mark.xfail(strict=True)
def test_xpasses(celery_pool):
    pass

def test_takes_time(celery_pool):
    time.sleep(0.3)

class Strange:
    def __reduce__(self):
        raise TypeError("not this one")
    def __repr__(self):
        return "strange"

def test_property_that_cannot_be_pickled(celery_pool, record_property):
    record_property("lock", repr(threading.Lock())[:4])
    record_property("strange", Strange())
    assert True

def test_subtests(celery_pool, subtests):
    with subtests.test("good"):
        pass
    with subtests.test("bad"):
        assert 1 == 2

def test_temporary_folder(celery_pool, tmp_path):
    (tmp_path / "file").write_text("x")

def test_last(module_life, facts):
    pass

def test_plain():
    pass
"""


@pytest.fixture(scope="module")
def run(shared_project):
    """The suite in all three hosts."""
    recorder = shared_project.path / "recorder.py"
    recorder.write_text(recorder.read_text().replace("json.dumps({", "json.dumps(default=repr, obj={"))
    shared_project.write(test_it=SUITE)
    return shared_project.run(*INPROCESS, "-rA", "--durations=3", "--junitxml=junit.xml")


def properties(run, test):
    return {key: value for report in run.reports if of(report, test, "call") for key, value in report["properties"]}


def of(report, test, when):
    return report["nodeid"].endswith(f"::{test}") and report["when"] == when


EXPECTED = {
    "test_facts": "passed",
    "test_facts_again": "passed",
    "test_output": "failed",
    "test_error_in_setup": "failed",
    "test_warns": "passed",
    "test_skips": "skipped",
    "test_marked_skip": "skipped",
    "test_xfails": "skipped",
    "test_xpasses": "failed",
    "test_takes_time": "passed",
    "test_property_that_cannot_be_pickled": "passed",
    "test_subtests": "failed",
    "test_temporary_folder": "passed",
    "test_last": "passed",
}


def test_outcomes(run):
    expected = {f"{test}[{host}]": outcome for test, outcome in EXPECTED.items() for host in HOSTS}
    assert run.outcomes() == {**expected, "test_plain": "passed"}


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="the suite has subtests, which came with pytest 9")
def test_status_and_summary(run):
    assert run.status == 1
    counts = "12 failed, 22 passed, 6 skipped, 3 xfailed, 3 warnings, 3 errors"
    assert counts in run.output
    assert run.output.count("= celery pools =") == 1


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_another_process(run, host):
    """One for all tests of a pool, and a child of pytest."""
    first, second, last = (
        properties(run, f"{test}[{host}]") for test in ("test_facts", "test_facts_again", "test_last")
    )
    assert first["pid"] == second["pid"] == last["pid"] != first["ppid"]
    assert len({properties(run, f"test_facts[{other}]")["pid"] for other in HOSTS}) == len(HOSTS)
    assert len({properties(run, f"test_facts[{other}]")["ppid"] for other in HOSTS}) == 1


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_patched_for_its_pool(run, host):
    assert properties(run, f"test_facts[{host}]")["socket"] == GREEN[host]


def test_the_host_of_prefork_has_no_thread(run):
    assert properties(run, "test_facts[prefork]")["threads"] == 1


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_has_a_worker_id(run, host):
    """Plugins that give each node of xdist a database of its own give each host one."""
    facts = properties(run, f"test_facts[{host}]")
    assert facts["worker"] == facts["environment"] == f"master-{host}"


@pytest.mark.parametrize("host", HOSTS)
def test_fixtures_of_higher_scope_live_from_the_first_test_to_the_last(run, host):
    first, second = (properties(run, f"{test}[{host}]") for test in ("test_facts", "test_facts_again"))
    assert first["life"] == second["life"]
    told = [
        (report["nodeid"].partition("::")[2], line)
        for report in run.reports
        if report["when"] == "teardown" and report["nodeid"].endswith(f"[{host}]")
        for _, text in report["sections"]
        for line in text.splitlines()
        if line.startswith(("session", "module"))
    ]
    begins = [("test_facts", "session begins"), ("test_facts", "module begins")]
    ends = [("test_last", "module ends"), ("test_last", "session ends")]
    assert told == [(f"{test}[{host}]", line) for test, line in begins + ends]


@pytest.mark.parametrize("host", HOSTS)
def test_captured_output(run, host):
    text = run.failure(f"test_output[{host}]")
    assert "assert str(celery_pool) ==" in text
    assert (
        "Captured stdout call\nto the file\nto stdout" in text or "Captured stdout call\nto stdout\nto the file" in text
    )
    assert "Captured stderr call\nto stderr" in text
    assert re.search(r"Captured log call\nWARNING +mine:test_it.py:\d+ to the log", text)


@pytest.mark.parametrize("host", HOSTS)
def test_duration(run, host):
    (seconds,) = (report["seconds"] for report in run.reports if of(report, f"test_takes_time[{host}]", "call"))
    assert 0.29 < seconds < 5
    assert re.search(rf"0\.\d\ds call +test_it.py::test_takes_time\[{host}\]", run.output)


def test_warnings(run):
    text = run.output.rpartition("= warnings summary =")[2]
    assert [f"test_it.py::test_warns[{host}]" in text for host in HOSTS] == [True] * len(HOSTS)
    assert text.count("UserWarning: beware of the host") == 1


@pytest.mark.parametrize("host", HOSTS)
def test_a_value_that_does_not_travel_arrives_as_text(run, host):
    found = properties(run, f"test_property_that_cannot_be_pickled[{host}]")
    assert found["strange"] == "strange"


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests came with pytest 9")
@pytest.mark.parametrize("host", HOSTS)
def test_subtests(run, host):
    assert f"SUBFAILED[bad] test_it.py::test_subtests[{host}] - assert 1 == 2" in run.output


def test_junit(run, shared_project):
    cases = {case.get("name"): case for case in ElementTree.parse(shared_project.path / "junit.xml").iter("testcase")}
    for host in HOSTS:
        names = [entry.get("name") for entry in cases[f"test_facts[{host}]"].iter("property")]
        assert {"pid", "worker"} <= set(names)
        assert cases[f"test_output[{host}]"].find("failure") is not None
        assert float(cases[f"test_takes_time[{host}]"].get("time")) > 0.29


def test_nothing_is_left(run, shared_project):
    assert not shared_project.remains()


# -- pytest's own options


ORDER = """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_it(celery_pool, n):
    assert n != 1

def test_other(celery_pool):
    pass
"""

GEVENT = ("--celery-pools=gevent", "--celery-launch=inprocess")


@pytest.mark.parametrize(
    ("option", "outcomes"),
    [
        ("-x", ["passed", "failed"]),
        pytest.param("--maxfail=2", ["passed", "failed", "passed", "passed", "passed"], marks=pytest.mark.slow),
        ("-k=other", ["passed"]),
        pytest.param("--deselect=test_it.py::test_it", ["passed"], marks=pytest.mark.slow),
        ("--sw", ["passed", "failed"]),
        ("test_it.py::test_it[gevent-2]", ["passed"]),
        pytest.param(
            "--import-mode=importlib", ["passed", "failed", "passed", "passed", "passed"], marks=pytest.mark.slow
        ),
        pytest.param("--strict-markers", ["passed", "failed", "passed", "passed", "passed"], marks=pytest.mark.slow),
    ],
)
def test_options_of_pytest(project, option, outcomes):
    run = project.write(test_it=ORDER).run(*GEVENT, option)
    assert list(run.outcomes().values()) == outcomes


@pytest.mark.gate("--lf")
@pytest.mark.parametrize("option", ["--lf", "--sw"])
def test_a_second_run_goes_on_where_the_first_ended(project, option):
    project.write(test_it=ORDER).run(*GEVENT, "--sw")
    run = project.run(*GEVENT, option)
    assert next(iter(run.outcomes().items())) == ("test_it[gevent-1]", "failed")


@pytest.mark.slow
def test_output_is_shown_with_s(project):
    run = project.write(test_it="def test_it(celery_pool): print('HERE', celery_pool)").run(*INPROCESS, "-s")
    assert [line for line in run.output.splitlines() if "HERE" in line] == [
        "test_it.py HERE gevent",
        ".HERE eventlet",
        ".HERE prefork",
    ]
    assert run.output.count("test session starts") == 1


@pytest.mark.parametrize(
    "distribution", [("-n2",), ("-n2", "--dist=loadgroup"), ("-n2", "--dist=worksteal")], ids=" ".join
)
@pytest.mark.slow
def test_below_xdist(project, distribution):
    """Each node has hosts of its own."""
    project.write(
        test_it="""
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def life():
            yield

        @pytest.fixture
        def module_life():
            yield

        @pytest.mark.parametrize("n", range(3))
        def test_it(celery_pool, worker_id, record_property, n):
            record_property("worker", worker_id)
            assert n != 1

        @pytest.mark.parametrize("n", range(3))
        def test_plain(n):
            pass
        """
    )
    run = project.run(*INPROCESS, *distribution)
    outcomes = {test.partition("@")[0]: outcome for test, outcome in run.outcomes().items()}
    wanted = {f"test_it[{host}-{n}]": "failed" if n == 1 else "passed" for host in HOSTS for n in range(3)}
    assert outcomes == {**wanted, **{f"test_plain[{n}]": "passed" for n in range(3)}}, run.output
    ids = {value for report in run.reports for name, value in report["properties"] if name == "worker"}
    assert ids <= {f"gw{node}-{host}" for node in (0, 1) for host in HOSTS}
    assert not project.remains()


@pytest.mark.skipif(importlib.util.find_spec("pytest_cov") is None, reason="pytest-cov is not installed")
@pytest.mark.gate("xdist")
@pytest.mark.parametrize("distribution", [(), ("-n2",)], ids=["alone", "xdist"])
def test_coverage(project, distribution):
    """Lines that only a host executes count."""
    project.write(
        covered="""
        def run(pool):
            if pool == "gevent":
                return 1
            if pool == "eventlet":
                return 2
            if pool == "prefork":
                return 3
            return 4
        """,
        test_it="""
        from covered import run

        def test_it(celery_pool):
            assert run(str(celery_pool))
        """,
    )
    run = project.run(*INPROCESS, *distribution, "-ppytest_cov.plugin", "--cov=covered", "--cov-report=term-missing")
    assert re.search(r"covered.py +8 +1 +88% +9$", run.output, re.MULTILINE), run.output
    assert [path.name for path in project.path.glob(".coverage*")] == [".coverage"]


# -- what can go wrong


@pytest.mark.gate("exit")
@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "host was killed by SIGKILL while it ran this test"),
        ("ctypes.string_at(0)", "host was killed by SIGSEGV while it ran this test"),
        ("os._exit(3)", "host exited with status 3 while it ran this test"),
        ("fork_and_die()", "host was killed by SIGKILL while it ran this test"),
    ],
    ids=["kill", "crash", "exit", "fork"],
)
def test_a_host_that_dies_costs_one_test(project, act, told):
    project.write(
        test_it=f"""
        import ctypes, os, signal, time

        def fork_and_die():
            # The child would hold the connection open.
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)

        def test_before(celery_pool):
            pass

        def test_dies(celery_pool):
            {act}

        def test_after(celery_pool):
            pass
        """
    )
    run = project.run(*INPROCESS, "-v")
    for host in HOSTS:
        outcomes = [run.outcomes()[f"test_{name}[{host}]"] for name in ("before", "dies", "after")]
        assert outcomes == ["passed", "failed", "passed"]
        assert f"the {host} {told}" in run.failure(f"test_dies[{host}]")
    assert run.seconds < 20
    assert not project.remains()


def test_a_crash_shows_where(project):
    project.write(
        test_it="""
        import ctypes

        def crash():
            ctypes.string_at(0)

        def test_it(celery_pool):
            crash()
        """
    )
    text = project.run(*GEVENT).failure("test_it[gevent]")
    assert re.search(r"Segmentation fault[\s\S]*in crash\n.*in test_it\n", text)
    assert "pluggy" not in text


def test_a_host_that_cannot_start_says_why(project):
    """Some tests find out, the others are told at once."""
    project.write(
        conftest="""
        import os
        if os.environ.get("PYTEST_XDIST_WORKER"):
            raise RuntimeError("no host today")
        """,
        test_it="""
        import pytest

        @pytest.mark.parametrize("n", range(5))
        def test_it(celery_pool, n):
            pass
        """,
    )
    run = project.run(*GEVENT)
    assert set(run.outcomes().values()) == {"failed"}
    assert "no host today" in run.failure("test_it[gevent-0]")
    assert "could not be started for 3 tests before and is not tried again" in run.failure("test_it[gevent-4]")


def test_a_file_that_only_a_host_cannot_import(project):
    project.write(
        test_it="""
        import socket
        if "gevent" in socket.socket.__module__:
            raise RuntimeError("not when patched")

        def test_it(celery_pool):
            pass
        """,
    )
    text = project.run(*GEVENT).failure("test_it[gevent]")
    assert "the gevent host did not find this test" in text
    assert "not when patched" in text


def test_a_file_without_a_test_for_the_host_is_not_imported_there(project):
    project.write(
        test_hosted="def test_it(celery_pool): pass",
        test_other="""
        import os
        assert "PYTEST_XDIST_WORKER" not in os.environ

        def test_it():
            pass
        """,
    )
    run = project.run(*GEVENT)
    assert run.status == 0, run.output


def test_a_test_whose_name_is_another_in_each_process(project):
    project.write(
        test_it="""
        import os
        import pytest

        @pytest.mark.parametrize("n", [os.getpid()])
        def test_it(celery_pool, n):
            pass
        """
    )
    run = project.run(*GEVENT)
    (text,) = (report["text"] for report in run.reports if report["outcome"] == "failed")
    assert "must be the same in every process" in text


def test_a_teardown_that_fails_at_the_end_of_a_stopped_run(project):
    project.write(
        test_it="""
        import pytest

        @pytest.fixture(scope="session")
        def life():
            yield
            raise RuntimeError("could not end")

        def test_it(celery_pool, life, request):
            pass

        def test_stops(celery_pool):
            pytest.exit("enough", 7)

        def test_never(celery_pool):
            pass
        """
    )
    run = project.run(*GEVENT)
    assert run.status == 7
    assert "could not end" in run.failure("test_stops[gevent]")
    assert "test_never[gevent]" not in run.outcomes()


@pytest.mark.parametrize("host", HOSTS)
def test_pdb_says_what_to_do(project, host):
    project.write(test_it="def test_it(celery_pool): assert 0")
    text = project.run(f"--celery-pools={host}", "--celery-launch=inprocess", "--pdb").failure(f"test_it[{host}]")
    assert text.strip() == (
        f"--pdb cannot reach a test in the {host} host. Run that pool alone in one process: "
        f"python -m pytest_celerypool.host {host} <your pytest arguments>"
    )


def test_a_breakpoint_says_what_to_do(project):
    run = project.write(test_it="def test_it(celery_pool): breakpoint()").run(*GEVENT)
    assert "python -m pytest_celerypool.host gevent <your" in run.failure("test_it[gevent]")


@pytest.mark.parametrize("host", HOSTS)
def test_pytest_itself_in_such_an_interpreter(project, host):
    """There no host is needed, and a debugger reaches the test."""
    project.write(test_it="import os\ndef test_it(celery_pool): print('IN', os.getpid()); assert 0")
    words = ["-ppytest_celerypool.plugin", "-pxdist.plugin", f"--celery-pools={host}", "--celery-launch=inprocess"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest_celerypool.host", host, *words, "--pdb"],
        cwd=project.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TMPDIR": str(project.temporary),
            "PYTEST_ADDOPTS": "",
        },
    )
    output, _ = process.communicate("p 6 * 7\nq\n", timeout=60)
    assert f"IN {process.pid}" in output
    assert "(Pdb) 42" in output


HANGS = """
import pathlib
import time
import pytest

@pytest.fixture(scope="session")
def life():
    yield
    pathlib.Path("torn down").touch()

def test_it(celery_pool, life):
    pathlib.Path("hangs").touch()
    time.sleep(100)
"""


@pytest.mark.gate("SIGINT-gevent", "SIGTERM-prefork", "SIGKILL-eventlet")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_however_pytest_is_ended(project, until, host, number):
    """It ends at once, and its host with it; after Ctrl-C fixtures are torn down."""
    project.write(test_it=HANGS)
    process = project.start(f"--celery-pools={host}", "--celery-launch=inprocess")
    assert until((project.path / "hangs").exists), project.output()
    began = time.monotonic()
    process.send_signal(number)
    process.wait(10)
    assert time.monotonic() - began < 4
    assert until(lambda: not project.remains()), project.remains()
    assert (project.path / "torn down").exists() == (number == signal.SIGINT)


@pytest.mark.skipif(importlib.util.find_spec("pytest_timeout") is None, reason="pytest-timeout is not installed")
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.slow
def test_a_hang_ends_by_pytest_timeout(project, host):
    """Where the host cannot interrupt its test pytest kills it; either way it is seen where the test hung."""
    project.write(
        test_it="""
        import signal, time

        def hang():
            time.sleep(100)

        def test_polite(celery_pool):
            hang()

        def test_stubborn(celery_pool):
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            hang()

        def test_after(celery_pool):
            pass
        """
    )
    run = project.run(f"--celery-pools={host}", "--celery-launch=inprocess", "-ppytest_timeout", "--timeout=1")
    assert list(run.outcomes().values()) == ["failed", "failed", "passed"]
    assert "hang()" in run.failure(f"test_polite[{host}]")
    assert re.search(r"in hang\b", run.failure(f"test_stubborn[{host}]"))
    assert not project.remains()


def test_a_host_that_dies_between_two_tests_costs_none(project):
    project.write(
        conftest="""
        import os, pathlib, signal, time

        def pytest_runtest_logfinish(nodeid):
            if "first" in nodeid and "PYTEST_XDIST_WORKER" not in os.environ:
                os.kill(int(pathlib.Path("pid").read_text()), signal.SIGKILL)
                time.sleep(0.5)
        """,
        test_it="""
        import os, pathlib

        def test_first(celery_pool):
            pathlib.Path("pid").write_text(str(os.getpid()))

        def test_second(celery_pool):
            pass
        """,
    )
    run = project.run(*GEVENT)
    assert set(run.outcomes().values()) == {"passed"}
    assert "the gevent host was killed by SIGKILL between two tests" in run.output


def test_a_host_has_the_environment_that_pytest_had_before_its_first_test(project):
    project.write(
        test_it="""
        import os

        def test_plain():
            os.environ["LEFT"] = "behind"

        def test_hosted(celery_pool):
            assert "LEFT" not in os.environ
        """
    )
    run = project.run(*GEVENT)
    assert run.status == 0, run.output


def test_input_from_the_terminal_says_what_to_do(project):
    run = project.write(test_it="def test_it(celery_pool): input()").run(*GEVENT, "-s")
    text = run.failure("test_it[gevent]")
    assert "input from the terminal cannot reach a test in the gevent host" in text
    assert "python -m pytest_celerypool.host gevent <your" in text


def test_a_plugin_that_is_switched_off_is_off_in_the_host_too(project):
    project.write(
        test_it="""
        def test_it(celery_pool, pytestconfig):
            assert not pytestconfig.pluginmanager.hasplugin("logging")
            assert pytestconfig.pluginmanager.hasplugin("junitxml")
        """
    )
    run = project.run(*GEVENT, "-p", "no:logging")
    assert run.outcomes() == {"test_it[gevent]": "passed"}, run.output
