from tasks import convert


def test_convert(celery_pool_worker):
    for number in range(8):
        assert convert.delay(f"clip-{number}").get(timeout=10)
