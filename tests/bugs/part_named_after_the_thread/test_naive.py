from tasks import export


def test_parts(celery_pool_worker):
    for each in [export.delay(customer, 4) for customer in "abc"]:
        each.get(timeout=10)
