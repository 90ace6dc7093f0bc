import time

from tasks import app, work


def test_the_worker_answers(celery_pool_worker):
    result = work.delay(1.5)
    time.sleep(0.3)
    app.control.ping(timeout=0.5)
    assert result.get(timeout=10) == 1.5
