from uuid import uuid4

from tasks import charge, publish_tariffs


def test_charge_with_new_tariffs(celery_pool_worker):
    customer = uuid4().hex
    publish_tariffs.delay("spring").get(timeout=10)
    assert charge.delay(customer).get(timeout=10) == 1
