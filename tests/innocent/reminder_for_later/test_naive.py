import time

from tasks import accept


def test_reminder(celery_pool_worker, tmp_path):
    board = tmp_path / "board"
    assert accept.delay("Ann", str(board)).get(timeout=10) == "Ann"
    deadline = time.monotonic() + 10
    while not board.exists() and time.monotonic() < deadline:  # the worker has nothing to do meanwhile
        time.sleep(0.01)
    assert board.read_text() == "Ann"
