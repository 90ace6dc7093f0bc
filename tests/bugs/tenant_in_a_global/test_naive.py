from tasks import invoice


def test_invoices(celery_pool_worker):
    results = [invoice.delay(tenant) for tenant in ("acme", "globex")]
    assert len([each.get(timeout=10) for each in results]) == 2
