"""Wherever an application lives and whatever it is configured with, its worker runs on the run's own server."""

import pytest

TASKS = """
@app.task
def add(x, y):
    return x + y

@app.task(bind=True)
def servers(self):
    connection = self.app.connection_for_write()
    return [connection.as_uri(), self.app.connection_for_read().as_uri(), self.app.backend.as_uri()]
"""

APP = f"from celery import Celery\napp = Celery('proj')\n{TASKS}"

ADDS = "\ndef test_it(celery_pool_worker):\n    assert celery_pool_worker.run(add, 1, 2) == 3\n"

ELSEWHERE = "redis://127.0.0.1:1/0"


def passes(run):
    assert run.status == 0, run.output
    return run


def test_in_a_module_named_by_the_option(project):
    project.write(proj=APP, test_it=f"from proj import add\n{ADDS}")
    passes(project.run("--celery-app=proj:app"))


def test_in_a_package_whose_application_celery_finds_by_itself(project):
    project.write(
        proj____init__="",
        proj__celery=APP,
        test_it=f"from proj.celery import add\n{ADDS}",
    )
    passes(project.run("--celery-app=proj"))


def test_made_by_a_factory(project):
    factory = "from celery import Celery\n\ndef make():\n    app = Celery('made')\n" + TASKS.replace("\n", "\n    ")
    uses = """
        def test_it(celery_pool_worker):
            assert celery_pool_worker.app.main == "made"
            assert celery_pool_worker.run("proj.add", 1, 2) == 3
    """
    project.write(proj=factory + "\n    return app\n", test_it=uses)
    passes(project.run("--celery-app=proj:make()"))


def test_in_the_ini_file_and_the_root_is_on_the_path(project):
    project.write(proj=APP, tests__test_it=f"from proj import add\n{ADDS}")
    (project.path / "pytest.ini").write_text("[pytest]\ncelery_app = proj:app\n")
    passes(project.run("--import-mode=importlib"))


@pytest.mark.gate("conftest")
@pytest.mark.parametrize("nodes", [(), ("-n1",)], ids=["conftest", "xdist"])
def test_on_a_path_that_the_conftest_file_of_a_folder_extends(project, nodes):
    """The file is read while the tests are collected."""
    project.write(
        src__proj=APP,
        tests__integration__conftest="import pathlib, sys\n"
        "sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / 'src'))\n",
        tests__integration__test_it=f"from proj import add\n{ADDS}",
        tests__unit__test_plain="def test_plain(): pass\n",
    )
    (project.path / "pytest.ini").write_text("[pytest]\ncelery_app = proj:app\n")
    passes(project.run(*nodes))


OVERRIDDEN = """
import pytest
{imports}

@pytest.fixture(scope="session")
def celery_pool_app():
    return app
"""


def test_from_a_fixture_overridden_in_conftest(project):
    project.write(
        proj=APP, conftest=OVERRIDDEN.format(imports="from proj import app"), test_it=f"from proj import add\n{ADDS}"
    )
    passes(project.run())


@pytest.mark.gate("importlib")
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_in_the_test_module_itself(project, mode):
    project.write(sub__test_it=APP + OVERRIDDEN.format(imports="") + ADDS)
    passes(project.run(f"--import-mode={mode}", "--celery-pools=prefork,gevent"))


@pytest.mark.gate("in-a-module")
@pytest.mark.parametrize(
    ("conftest", "body"),
    [
        pytest.param(OVERRIDDEN.format(imports="from ..tasks import app"), "from ..tasks import add", id="in-a-module"),
        pytest.param(
            "", f"from ..tasks import app as _\n{APP}{OVERRIDDEN.format(imports='')}", id="in-the-test-module"
        ),
    ],
)
def test_in_a_package_that_pytest_imports_from_its_files(project, conftest, body):
    project.write(
        src__shop____init__="",
        src__shop__app="from celery import Celery\napp = Celery('shop')\n",
        src__shop__tasks=f"from .app import app\n{TASKS}",
        src__shop__tests____init__="",
        src__shop__tests__conftest=conftest,
        src__shop__tests__test_it=body + ADDS,
    )
    run = passes(project.run("--import-mode=importlib", "--celery-pools=prefork,gevent"))
    assert len(run.outcomes()) == 2


def test_in_conftest_itself(project):
    project.write(
        conftest=APP + OVERRIDDEN.format(imports=""),
        test_it='def test_it(celery_pool_worker):\n    assert celery_pool_worker.run("conftest.add", 1, 2) == 3\n',
    )
    passes(project.run())


def test_two_modules_with_applications_of_their_own(project):
    module = APP + OVERRIDDEN.format(imports="") + ADDS
    project.write(test_one=module.replace("'proj'", "'one'"), test_two=module.replace("'proj'", "'two'"))
    run = passes(project.run("--celery-pools=solo,threads"))
    assert len(run.outcomes()) == 2 * len({"solo", "threads"}) / 2


def test_made_inside_a_fixture_it_is_an_error_that_offers_the_factory(project):
    project.write(
        conftest="import pytest\nfrom celery import Celery\n\n@pytest.fixture(scope='session')\n"
        "def celery_pool_app():\n    return Celery('inside')\n",
        test_it="def test_it(celery_pool_worker): pass\n",
    )
    text = project.run().failure("test_it[prefork]")
    assert "lives in no module that a worker could import" in text
    assert "--celery-app=MODULE:FACTORY()" in text


def test_an_import_that_fails_in_the_worker_alone_shows_its_traceback(project):
    project.write(
        proj="import sys\nif 'pytest' not in sys.modules:\n    raise LookupError('only in the worker')\n" + APP,
        test_it=f"from proj import add\n{ADDS}",
    )
    text = project.run("--celery-app=proj:app", "--celery-pools=solo").failure("test_it[solo]")
    assert "exited with status" in text
    assert "LookupError: only in the worker" in text
    assert "proj.py" in text


SHOWS_SERVERS = """
import os
from proj import app, servers

def test_servers(celery_pool_worker):
    for url in celery_pool_worker.run(servers):
        assert "socket:///" in url, url

def test_other_applications_keep_theirs(celery_pool_worker):
    from celery import Celery
    other = Celery("other", broker="redis://127.0.0.1:1/5")
    assert other.connection_for_write().info()["virtual_host"] == ("0" if "CELERY_BROKER_URL" in os.environ else "5")
"""

CONFIGURATIONS = {
    "nothing": "",
    "urls": f"app.conf.broker_url = app.conf.result_backend = '{ELSEWHERE}'",
    "read-and-write": f"app.conf.broker_read_url = app.conf.broker_write_url = '{ELSEWHERE}'",
    "failover": f"app.conf.broker_url = ['{ELSEWHERE}', 'amqp://127.0.0.1:1//']",
    "rabbitmq": "app.conf.broker_url = 'amqp://127.0.0.1:1//'; app.conf.result_backend = 'rpc://'",
    "ssl": "import ssl; app.conf.broker_url = 'rediss://127.0.0.1:1'; "
    "app.conf.broker_use_ssl = app.conf.redis_backend_use_ssl = {'ssl_cert_reqs': ssl.CERT_NONE}",
    "sentinel": "app.conf.broker_url = 'sentinel://127.0.0.1:1'; "
    "app.conf.broker_transport_options = {'master_name': 'x', 'global_keyprefix': 'mine.'}",
    "no-results": "app.conf.task_ignore_result = False; app.conf.result_backend = None",
    "in-memory": "app.conf.broker_url = 'memory://'; app.conf.result_backend = 'cache+memory://'",
    "lazy-object": "app.config_from_object('settings')",
    "eager": "app.conf.task_always_eager = True",
    "pool-limit": "app.conf.broker_pool_limit = None",
}


@pytest.mark.gate("read-and-write", "lazy-object")
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_its_own_servers_are_never_used(project, configuration):
    project.write(
        settings=f"broker_url = '{ELSEWHERE}'\nresult_backend = '{ELSEWHERE}'\n",
        proj=f"{APP}\n{CONFIGURATIONS[configuration]}\n",
        test_it=SHOWS_SERVERS,
    )
    passes(project.run("--celery-app=proj:app", "--celery-pools=solo"))


def test_the_environment_does_not_decide_either(project):
    project.write(proj=APP, test_it=SHOWS_SERVERS)
    environment = {
        "CELERY_BROKER_URL": ELSEWHERE,
        "CELERY_RESULT_BACKEND": ELSEWHERE,
        "CELERY_BROKER_READ_URL": ELSEWHERE,
    }
    passes(project.run("--celery-app=proj:app", "--celery-pools=solo,gevent", environment=environment))


def test_an_eager_application_is_pointed_out_in_the_header_and_its_tasks_reach_the_worker(project):
    body = (
        "\ndef test_it(celery_pool_worker):\n    add.delay(1, 2).get()\n    assert len(celery_pool_worker.spans) == 1\n"
    )
    project.write(proj=f"{APP}\napp.conf.task_always_eager = True\n", test_it=f"from proj import add\n{body}")
    run = passes(project.run("--celery-app=proj:app"))
    assert "celery task_always_eager is on in the application 'proj'" in run.output
    assert run.output.count("task_always_eager") == 1


def test_a_connection_of_the_tests_own_is_not_published_to(project):
    body = """
        from kombu import Connection
        from proj import add

        def test_it(celery_pool_worker):
            with Connection("memory://") as connection:
                add.apply_async((1, 2), connection=connection)
    """
    project.write(proj=APP, test_it=body)
    text = project.run("--celery-app=proj:app").failure("test_it[prefork]")
    assert "instead of the run's broker" in text
    assert "it was not sent" in text


def test_a_custom_pool_runs_and_another_than_was_asked_for_does_not(project):
    pools = "from celery.concurrency.solo import TaskPool as Solo\n\nclass TaskPool(Solo):\n    pass\n"
    project.write(proj=APP, pools=pools, test_it=f"from proj import add\n{ADDS}")
    run = passes(project.run("--celery-app=proj:app", "--celery-pools=pools:TaskPool,solo"))
    assert sorted(run.outcomes()) == ["test_it[pools:TaskPool]", "test_it[solo]"]


@pytest.mark.gate("option")
@pytest.mark.parametrize(
    ("marker", "arguments", "source"),
    [
        pytest.param("", ["--celery-pools=no_pools:TaskPool"], "--celery-pools", id="option"),
        pytest.param(
            "", ["--celery-pools=no_pools:TaskPool", "--celery-launch=inprocess"], "--celery-pools", id="inprocess"
        ),
        pytest.param("@pytest.mark.celery_pools('no_pools:TaskPool')", [], "celery_pools", id="marker"),
    ],
)
def test_a_custom_pool_whose_module_does_not_exist_is_an_error_that_names_the_option(
    project, marker, arguments, source
):
    project.write(proj=APP, test_it=f"import pytest\nfrom proj import add\n{marker}{ADDS}")
    run = project.run("--celery-app=proj:app", *arguments)
    assert run.status == 1
    text = run.failure("test_it[no_pools:TaskPool]")
    assert f"{source}: there is no module 'no_pools', which the pool no_pools:TaskPool names. The root" in text


def test_a_custom_pool_is_looked_for_where_a_fixture_has_extended_the_path(project):
    conftest = """
        import pathlib, sys
        import pytest

        @pytest.fixture(scope="session", autouse=True)
        def path():
            sys.path.insert(0, str(pathlib.Path(__file__).parent / "far"))
    """
    project.write(
        proj=APP,
        conftest=conftest,
        far__pools="from celery.concurrency.solo import TaskPool\n",
        test_it=f"from proj import add\n{ADDS}",
    )
    # The class is solo's own, so that what is run is told to be another: the module was found.
    text = project.run("--celery-app=proj:app", "--celery-pools=pools:TaskPool").failure("test_it[pools:TaskPool]")
    assert "runs celery.concurrency.solo:TaskPool" in text


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_a_custom_pool_whose_library_is_not_installed_is_a_skip_that_says_which(project, launch):
    pools = "import no_library\nfrom celery.concurrency.solo import TaskPool as Solo\nclass TaskPool(Solo): pass\n"
    body = "import pytest\n\n@pytest.mark.parametrize('n', range(5))\ndef test_it(celery_pool_worker, n): pass\n"
    project.write(proj=APP, pools=pools, test_it=body)
    arguments = ["--celery-app=proj:app", "--celery-pools=pools:TaskPool", f"--celery-launch={launch}", "-rs"]
    run = passes(project.run(*arguments, environment={"COLUMNS": "200"}))
    assert list(run.outcomes().values()) == ["skipped"] * 5
    assert "no_library is not installed, and the module of the pool pools:TaskPool imports it" in run.output


def test_a_custom_pool_whose_module_misspells_one_of_the_project_is_an_error(project):
    project.write(proj=APP, pools____init__="", pools__own="import pools.helpr\n", test_it=f"import proj\n{ADDS}")
    text = project.run("--celery-app=proj:app", "--celery-pools=pools.own:TaskPool").failure(
        "test_it[pools.own:TaskPool]"
    )
    assert "ModuleNotFoundError: No module named 'pools.helpr'" in text


def test_a_worker_that_runs_another_pool_than_was_asked_for_has_failed_to_start(project):
    sneaky = "\nfrom celery import concurrency\nconcurrency.ALIASES['threads'] = 'celery.concurrency.solo:TaskPool'\n"
    project.write(proj=APP + sneaky, test_it=f"from proj import add\n{ADDS}")
    text = project.run("--celery-app=proj:app", "--celery-pools=threads").failure("test_it[threads]")
    assert "was asked to run the pool threads" in text
    assert "runs celery.concurrency.solo:TaskPool" in text


def test_a_worker_that_is_killed_while_it_starts_is_a_clear_error(project):
    project.write(
        proj="import os, signal, sys\nif 'pytest' not in sys.modules:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        + APP,
        test_it=f"from proj import add\n{ADDS}",
    )
    text = project.run("--celery-app=proj:app", "--celery-pools=solo").failure("test_it[solo]")
    assert "was killed by SIGKILL before it was ready" in text


def test_what_cannot_start_is_not_tried_for_every_test(project):
    body = "import pytest\n\n@pytest.mark.parametrize('n', range(6))\ndef test_it(celery_pool_worker, n): pass\n"
    project.write(proj="import sys\nassert 'pytest' in sys.modules\n" + APP, test_it=body)
    run = project.run("--celery-app=proj:app", "--celery-pools=solo")
    assert "exited with status" in run.failure("test_it[solo-2]")
    assert "could not be started for 3 tests before and is not tried again" in run.failure("test_it[solo-3]")


@pytest.mark.parametrize("pools", ["solo", "solo,threads"])
def test_an_application_that_is_not_there_is_named_in_each_test(project, pools):
    """And not in the first alone: the fixture is one of the session."""
    body = "def test_one(celery_pool_worker): pass\n\ndef test_two(celery_pool_worker): pass\n"
    project.write(proj=APP, test_it=body)
    run = project.run("--celery-app=proj:ap", f"--celery-pools={pools}")
    for test in ("test_one", "test_two"):
        for pool in pools.split(","):
            assert "--celery-app=proj:ap: the application" in run.failure(f"{test}[{pool}]")


def test_without_any_server_the_extra_is_named(project):
    project.write(
        proj=APP,
        conftest="import pytest_celerypool.broker.embedded as embedded\n"
        "embedded._bundled_server = lambda: None\nembedded.shutil.which = lambda name: None\n",
        test_it=f"from proj import add\n{ADDS}",
    )
    text = project.run("--celery-app=proj:app").failure("test_it[prefork]")
    assert "pip install 'pytest-celerypool[embedded]'" in text


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "amqp://guest:secret@127.0.0.1:1//"])
def test_a_broker_that_nobody_answers_at_is_named_at_once_without_its_password(project, url):
    project.write(proj=APP, test_it=f"from proj import add\n{ADDS}")
    run = project.run("--celery-app=proj:app", f"--celery-broker={url}")
    text = run.failure("test_it[prefork]")
    assert "connection refused" in text
    assert "--celery-broker=embedded, the default, needs none" in text
    assert "secret" not in run.output
    assert run.seconds < 20


def test_a_test_that_reaches_its_worker_dynamically_runs_once_and_is_counted(project):
    body = """
        import unittest
        import pytest
        from proj import add

        def test_dynamic(request):
            assert request.getfixturevalue("celery_pool_worker").run(add, 1, 2) == 3

        @pytest.mark.celery_expect
        class TestCase(unittest.TestCase):
            def test_marked(self):
                add.delay(1, 2)
    """
    project.write(proj=APP, test_it=body)
    run = passes(project.run("--celery-app=proj:app", "--celery-pools=solo,threads"))
    assert sorted(run.outcomes()) == ["TestCase::test_marked", "test_dynamic"]
    assert "2 tests ran once, on a worker of their own" in run.output


def test_a_marked_test_case_is_judged(project):
    body = """
        import unittest
        import pytest
        from proj import add

        class TestCase(unittest.TestCase):
            @pytest.mark.celery_expect
            def test_marked(self):
                add.delay(1, "x")
    """
    project.write(proj=APP, test_it=body)
    assert "expected state=SUCCESS, found FAILURE" in project.run("--celery-app=proj:app").failure(
        "TestCase::test_marked"
    )


SHARED = """
from celery import Celery, shared_task

app = Celery("proj", broker="{elsewhere}", backend="{elsewhere}")

@shared_task
def add(x, y):
    return x + y
"""

TWO_APPLICATIONS = """
import threading

import pytest
from celery import Celery, current_app
from proj import add
import legacy

@pytest.fixture
def another():
    return Celery("another")

def test_a_module_made_one_later(celery_pool_worker):
    assert add.delay(1, 2).get() == 3

def test_so_did_a_fixture(celery_pool_worker, another):
    assert celery_pool_worker.run(add.s(1, 2)) == 3

def test_in_another_thread_too(celery_pool_worker):
    sent = []
    thread = threading.Thread(target=lambda: sent.append(add.delay(1, 2)))
    thread.start()
    thread.join()
    assert sent[0].get() == 3

def test_the_test_itself_did(celery_pool_worker):
    Celery("in the test")
    for what in (add, add.s()):
        with pytest.raises(Exception, match="sent by the application 'in the test', .* runs 'proj': nothing was sent"):
            celery_pool_worker.submit(what, 1, 2)

def test_what_the_test_made_current_is_left_so():
    assert current_app.main == "in the test"
"""


@pytest.mark.gate("subprocess")
@pytest.mark.parametrize("launch", ["subprocess", "inprocess"])
def test_shared_tasks_are_sent_by_the_application_under_test_whichever_was_made_last(project, launch):
    project.write(
        proj=SHARED.format(elsewhere=ELSEWHERE),
        legacy=f"from celery import Celery\napp = Celery('legacy', broker='{ELSEWHERE}')\n",
        test_it=TWO_APPLICATIONS if launch == "subprocess" else TWO_APPLICATIONS.rpartition("\ndef ")[0],
    )
    passes(project.run("--celery-app=proj:app", f"--celery-launch={launch}", "-p", "no:randomly"))
