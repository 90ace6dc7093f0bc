from tasks import invoice


def test_invoice(celery_pool_worker):
    results = [invoice.delay(name) for name in ("a", "b", "c")]
    assert all(each.get(timeout=10) for each in results)
