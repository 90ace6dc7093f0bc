from tasks import page, price


def test_price(celery_pool_worker):
    for day in range(14):
        assert price.delay(day).get(timeout=10) == 2 << 20


def test_page(celery_pool_worker):
    for number in range(14):
        assert page.delay(number).get(timeout=10) == number
