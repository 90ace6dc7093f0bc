import time

from tasks import query, quick


def test_quick(celery_pool_worker):
    long = query.delay(1.8)
    time.sleep(0.2)
    short = quick.delay(1)
    assert short.get(timeout=10) == 1
    assert long.get(timeout=10)
