from tasks import store


def test_store(celery_pool_worker):
    for number in range(4):
        assert store.delay(number).get(timeout=10) == number
