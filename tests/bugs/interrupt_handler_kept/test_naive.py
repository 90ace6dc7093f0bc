from tasks import batch


def test_batch(celery_pool_worker):
    assert batch.delay(3).get(timeout=10) == 3
