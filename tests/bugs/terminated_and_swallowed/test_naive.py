import time

from tasks import sync


def test_stop_sync(celery_pool_worker):
    result = sync.delay(4)
    time.sleep(0.5)
    result.revoke(terminate=True)
    time.sleep(1.5)
