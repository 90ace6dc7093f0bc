from tasks import invoice


def test_invoice(celery_pool_worker):
    assert invoice.delay("7").get(timeout=10) == "paid"
