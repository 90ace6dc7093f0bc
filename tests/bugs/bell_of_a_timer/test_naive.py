import time

from tasks import solve


def test_easy(celery_pool_worker):
    assert solve.delay("easy", 2).get(timeout=20) == {"board": "easy", "solved": True}


def test_hard_and_then_more(celery_pool_worker):
    assert solve.delay("hard", 10).get(timeout=20)["board"] == "hard"
    time.sleep(1)
    for n in range(4):
        assert solve.delay("more-%d" % n, 1).get(timeout=10)["solved"] is True
