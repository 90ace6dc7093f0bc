from tasks import load


def test_rows(celery_pool_worker):
    results = [load.delay(["a", "b", "c"], tenant=tenant) for tenant in ("acme", "bolt")]
    for each in results:
        each.get(timeout=10)
