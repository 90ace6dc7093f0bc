from tasks import notify


def test_notify(celery_pool_worker):
    assert notify.delay(3).get(timeout=10) == 3
