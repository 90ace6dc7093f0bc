from tasks import charge


def test_all_orders_are_charged(celery_pool_worker):
    sent = [charge.delay(n) for n in range(4)]
    assert [r.get(timeout=10) for r in sent] == [0, 1, 2, 3]
