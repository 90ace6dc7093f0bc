from tasks import fetch


def test_fetch(celery_pool_worker):
    for number in range(3):
        assert fetch.delay(number).get(timeout=10) == number
