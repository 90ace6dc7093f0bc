from tasks import notify


def test_notify(celery_pool_worker):
    for number in range(8):
        assert notify.delay(number).get(timeout=10) == number
