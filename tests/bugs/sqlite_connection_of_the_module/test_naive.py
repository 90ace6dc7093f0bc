from tasks import lookup


def test_lookup(celery_pool_worker):
    lookup.delay(3).get(timeout=10, propagate=False)
