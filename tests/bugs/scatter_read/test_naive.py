from tasks import reading


def test_reading(celery_pool_worker):
    assert reading.delay(230).get(timeout=10) == 230
