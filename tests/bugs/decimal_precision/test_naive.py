from tasks import price, rough_estimate


def test_prices(celery_pool_worker):
    assert price.delay(1).get(timeout=10).startswith("0.14")
    assert rough_estimate.delay(1).get(timeout=10) == "0.143"
