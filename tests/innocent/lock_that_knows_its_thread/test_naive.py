from tasks import rehearse


def test_rehearse(celery_pool_worker):
    results = [rehearse.delay("bolts", [n, n]) for n in (1, 5)]
    assert results[0].get(timeout=10) == 2
    assert results[1].get(timeout=10) == 10
