import pathlib
import subprocess
import sys

import pytest
from tasks import ask


@pytest.fixture
def port():
    command = [sys.executable, str(pathlib.Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield int(server.stdout.readline())
        server.kill()


def test_answers(celery_pool_worker, port):
    results = [ask.delay(port, path) for path in ("/a", "/b", "/c")]
    assert [each.get(timeout=10) for each in results] == ["ok"] * 3
