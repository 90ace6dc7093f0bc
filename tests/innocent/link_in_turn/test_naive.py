from celery import group

from tasks import price


def test_price(celery_pool_worker):
    assert group(price.s(x) for x in ("nuts", "figs")).apply_async().get(timeout=10) == ["NUTS", "FIGS"]
    assert price.delay("tea").get(timeout=10) == "TEA"
