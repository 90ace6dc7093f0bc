from tasks import load


def test_load(celery_pool_worker):
    for day in range(16):
        assert load.delay(day).get(timeout=10) == 2 << 20
