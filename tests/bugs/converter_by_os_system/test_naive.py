from tasks import convert


def test_convert(celery_pool_worker):
    assert convert.delay(0.4).get(timeout=10) == 0
