from tasks import invoice, refund


def test_invoice(celery_pool_worker):
    assert refund.delay(10).get(timeout=10).startswith("3.33")
    assert invoice.delay(10).get(timeout=10) == "3.33334"
