import time

from tasks import crunch, running


def test_running(celery_pool_worker):
    crunch.delay(1.5)
    time.sleep(0.3)
    assert running() == ["tasks.crunch"]
