from tasks import digits


def test_digits(celery_pool_worker):
    short, long = digits.delay(6000, 0.1), digits.delay(7000, 0.4)
    assert short.get(timeout=10) == 5071
    assert long.get(timeout=10) == 5916
