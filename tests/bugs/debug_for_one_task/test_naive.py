from tasks import sync


def test_sync(celery_pool_worker):
    assert sync.delay("warm", False).get(timeout=10) == "warm"
    results = [sync.delay("b", False), sync.delay("a", True)]
    assert [result.get(timeout=10) for result in results] == ["b", "a"]
