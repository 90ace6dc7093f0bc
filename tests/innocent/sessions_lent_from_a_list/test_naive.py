from tasks import once, work


def test_work(celery_pool_worker):
    results = [work.delay(n) for n in range(8)] + [once.delay("k") for n in range(4)]
    assert all(r.get(timeout=10) for r in results)
