from tasks import load


def test_load(celery_pool_worker):
    assert load.delay(100).get(timeout=10) == 100
