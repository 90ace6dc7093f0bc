from tasks import load


def test_load(celery_pool_worker):
    assert load.delay().get(timeout=10) > 0
