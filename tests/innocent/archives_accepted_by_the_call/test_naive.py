import time
from tasks import restore


def test_restore(celery_pool_worker):
    near = restore.delay(2019, 0.2)
    time.sleep(0.1)
    far = restore.delay(1999, 0.5)
    assert [near.get(timeout=10), far.get(timeout=10)] == [2019, 1999]
