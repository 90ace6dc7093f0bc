from tasks import find


def test_find(celery_pool_worker):
    for _ in range(4):
        assert find.delay("bolt").get(timeout=10) == 1
