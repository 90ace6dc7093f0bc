import time

from tasks import convert


def test_rates_are_fresh(celery_pool_worker):
    assert convert.delay(10, "EUR").get(timeout=10)["amount"] == 10
    time.sleep(2)
    assert convert.delay(10, "EUR").get(timeout=10)["rate_age"] < 1.5
