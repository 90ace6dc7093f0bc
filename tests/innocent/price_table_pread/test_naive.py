from celery import group

from tasks import price


def test_prices(celery_pool_worker):
    prices = group(price.s(n) for n in range(0, 500, 25)).apply_async()
    assert prices.get(timeout=10) == [n * 7 for n in range(0, 500, 25)]
