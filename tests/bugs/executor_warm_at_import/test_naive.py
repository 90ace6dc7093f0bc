from tasks import distances


def test_distances(celery_pool_worker):
    assert distances.delay([-1, 2]).get(timeout=4) == [1, 2]
