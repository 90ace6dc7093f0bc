from tasks import gift


def test_gift(celery_pool_worker):
    results = [gift.delay(n) for n in range(8)]
    assert all(r.get(timeout=10).startswith("gift") for r in results)
