import uuid

from tasks import place, placed


def test_a_declined_order_is_not_stored(celery_pool_worker):
    good, bad = uuid.uuid4().hex, uuid.uuid4().hex
    results = [place.delay(good, 10), place.delay(bad, 1000)]
    for result in results:
        result.get(timeout=10, propagate=False)
    assert placed.delay(good).get(timeout=10) == 1
    assert placed.delay(bad).get(timeout=10) == 0
