from tasks import index


def test_index(celery_pool_worker):
    assert index.delay("a.txt").get(timeout=10) == ["a.txt", True]
