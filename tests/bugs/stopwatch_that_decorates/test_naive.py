import time

from tasks import invoice


def test_invoice(celery_pool_worker):
    long = invoice.delay(3)
    time.sleep(0.3)
    short = invoice.delay(3)
    assert long.get(timeout=10) >= 0.5
    assert short.get(timeout=10) >= 0.5
