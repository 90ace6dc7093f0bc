from shop import price


def test_price(celery_pool_worker):
    assert celery_pool_worker.run(price, 2, 3) == 6
