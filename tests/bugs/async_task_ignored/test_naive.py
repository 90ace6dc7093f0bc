from tasks import notify


def test_notify(celery_pool_worker):
    notify.delay("ann")
