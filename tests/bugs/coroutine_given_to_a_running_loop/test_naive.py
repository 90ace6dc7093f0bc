from tasks import synchronise


def test_customers(celery_pool_worker):
    results = [synchronise.delay("a", 0.2), synchronise.delay("b", 0.5)]
    assert [each.get(timeout=10) for each in results] == ["a", "b"]
