from tasks import find


def test_find(celery_pool_worker):
    results = [find.delay("a") for _ in range(4)]
    assert [r.get(timeout=10) for r in results] == [1] * 4
