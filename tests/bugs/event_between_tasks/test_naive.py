from tasks import load, transform


def test_pipeline(celery_pool_worker):
    results = [transform.delay(), load.delay()]
    for each in results:
        each.get(timeout=10)
