from tasks import charge


def test_charge(celery_pool_worker):
    for customer in ("a", "b"):
        assert charge.delay(customer, 7).get(timeout=10) == 7
