from tasks import total


def test_total(celery_pool_worker):
    assert total.delay([1, 2, 3]).get(timeout=10) == 14
