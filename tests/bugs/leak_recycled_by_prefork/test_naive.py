from tasks import convert


def test_convert(celery_pool_worker):
    for number in range(5):
        assert convert.delay(number).get(timeout=10) > 0
