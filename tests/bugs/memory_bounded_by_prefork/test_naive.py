from tasks import invert


def test_invert(celery_pool_worker):
    assert invert.delay(3).get(timeout=10) == 3
