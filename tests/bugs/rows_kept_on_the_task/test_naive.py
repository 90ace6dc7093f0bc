from tasks import load


def test_load(celery_pool_worker):
    results = [load.delay(source, 3) for source in ("a", "b")]
    for each in results:
        each.get(timeout=10)
