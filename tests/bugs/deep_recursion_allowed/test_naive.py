from tasks import measure


def test_measure(celery_pool_worker):
    assert measure.delay(20).get(timeout=10) == 21
