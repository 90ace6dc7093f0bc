from tasks import price_rules


def test_rules(celery_pool_worker):
    results = [price_rules.delay(tenant) for tenant in ("acme", "bolt")]
    assert all(result.get(timeout=10) for result in results)
