from tasks import notify


def test_notify(celery_pool_worker):
    assert notify.delay(1).get(timeout=10) == 1
    assert notify.delay(2).get(timeout=10) == 2
