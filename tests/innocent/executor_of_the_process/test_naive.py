import time

from tasks import store


def test_store(celery_pool_worker):
    for number in range(8):
        assert store.delay(number).get(timeout=10) == number
    time.sleep(1)


def test_store_again(celery_pool_worker):
    for number in range(3):
        assert store.delay(number).get(timeout=10) == number
    time.sleep(0.5)
