from tasks import work


def test_work(celery_pool_worker):
    results = [work.delay(seconds) for seconds in (0.2, 0.1, 0.15)]
    assert [r.get(timeout=10) for r in results] == [0.2, 0.1, 0.15]
