from tasks import convert


def test_convert(celery_pool_worker):
    results = [convert.delay("a", 0.2), convert.delay("b", 0.1)]
    assert [result.get(timeout=10) for result in results] == ["a", "b"]
