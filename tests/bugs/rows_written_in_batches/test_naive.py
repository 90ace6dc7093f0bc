from tasks import collect


def test_collect(celery_pool_worker):
    results = [collect.delay("x" * n) for n in (3, 5, 8)]
    assert [r.get(timeout=10) for r in results] == [3, 5, 8]
