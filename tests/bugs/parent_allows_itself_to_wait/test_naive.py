from tasks import whole


def test_whole(celery_pool_worker):
    assert whole.delay(3).get(timeout=10) == 3
