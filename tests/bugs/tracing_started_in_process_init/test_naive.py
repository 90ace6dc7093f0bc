from tasks import work


def test_work(celery_pool_worker):
    assert work.delay(1).get(timeout=10) == 1
