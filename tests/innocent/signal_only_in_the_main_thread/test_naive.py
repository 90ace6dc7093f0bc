from tasks import batch


def test_batches(celery_pool_worker):
    assert [each.get(timeout=10) for each in [batch.delay(n) for n in range(4)]] == [0, 1, 2, 3]
