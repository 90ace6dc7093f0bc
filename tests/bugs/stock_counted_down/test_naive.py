from tasks import reserve


def test_reserve(celery_pool_worker):
    results = [reserve.delay("mug", 1) for _ in range(3)]
    assert sum(each.get(timeout=10) for each in results) == 3
