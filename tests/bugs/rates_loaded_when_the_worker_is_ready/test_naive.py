import time

from tasks import convert


def test_convert(celery_pool_worker):
    time.sleep(0.2)
    convert.delay(10).get(timeout=10, propagate=False)
