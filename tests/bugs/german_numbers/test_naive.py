from tasks import invoice, statistics


def test_invoice(celery_pool_worker):
    results = [statistics.delay(), invoice.delay(1234.5)]
    assert results[1].get(timeout=10).startswith("1")
    results[0].get(timeout=10)
