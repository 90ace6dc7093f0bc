from tasks import synchronise


def test_synchronise(celery_pool_worker):
    results = [synchronise.delay("a", 0.3), synchronise.delay("b", 0.15), synchronise.delay("c", 0.2)]
    assert [result.get(timeout=10) for result in results] == ["a", "b", "c"]
