from tasks import index


def test_index(celery_pool_worker):
    results = [index.delay(word) for word in ("apple", "bread", "cheese")]
    assert all(result.get(timeout=10) for result in results)
