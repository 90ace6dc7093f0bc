from tasks import convert


def test_conversion(celery_pool_worker):
    assert convert.delay(10).get(timeout=10) == 11.0
