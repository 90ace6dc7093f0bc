from tasks import hit


def test_hits(celery_pool_worker):
    results = [hit.delay() for _ in range(3)]
    assert sorted(each.get(timeout=10) for each in results) == [1, 2, 3]
