from tasks import find


def test_find(celery_pool_worker):
    find.delay("bolt").get(timeout=10)
