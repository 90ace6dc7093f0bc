from tasks import notify, subscribe


def test_notify(celery_pool_worker):
    results = [notify.delay(), subscribe.delay("c")]
    for each in results:
        each.get(timeout=10, propagate=False)
