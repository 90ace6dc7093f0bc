"""What the agent prepares before a worker reads its command line."""

import subprocess
import sys

import pytest
from kombu import Queue

from pytest_celerypool.agent.install import static_routes


def route(name, *args, **kwargs):
    return "dynamic"


@pytest.mark.parametrize(
    ("routes", "names"),
    [
        (None, []),
        ({}, []),
        ({"proj.mail": {"queue": "mail"}}, ["mail"]),
        ({"proj.mail": "mail", "proj.*": "rest"}, ["mail", "rest"]),
        ({"proj.mail": {"queue": Queue("mail")}}, ["mail"]),
        ({"proj.mail": {"exchange": "e", "routing_key": "k"}}, []),
        ([{"a": "one"}, {"b": {"queue": "two"}}, {"c": "one"}], ["one", "two"]),
        ([[("a", "one"), ("b", {"queue": "two"})]], ["one", "two"]),
        ([route, {"a": "one"}], ["one"]),
        ("proj.routers.Router", []),
    ],
)
def test_the_queues_that_static_routes_name_are_found(routes, names):
    assert static_routes(routes) == names


def test_celerys_prompt_is_left_out_and_is_there_for_whoever_wants_it():
    program = (
        "import sys\n"
        "from pytest_celerypool.agent.install import _command_line\n"
        "assert _command_line().celery.commands['worker']\n"
        "assert 'prompt_toolkit' not in sys.modules\n"
        "import click_repl\n"
        "assert click_repl.__file__ and 'prompt_toolkit' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
