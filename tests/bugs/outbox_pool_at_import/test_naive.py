from tasks import send


def test_orders(celery_pool_worker):
    results = [send.delay(n) for n in range(6)]
    assert [r.get(timeout=10) for r in results] == [{"order": n} for n in range(6)]
