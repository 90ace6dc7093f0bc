from celery import group

from tasks import convert, update_rates


def test_new_rates_are_used(celery_pool_worker):
    update_rates.delay({"EUR": 1.0, "NOK": 12.0}).get(timeout=10)
    amounts = group(convert.s(2, "NOK") for _ in range(6)).apply_async().get(timeout=10)
    assert amounts == [24.0] * 6
