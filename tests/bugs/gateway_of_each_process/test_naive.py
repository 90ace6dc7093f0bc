from tasks import charge


def test_charge(celery_pool_worker):
    results = [charge.delay(f"c{n}", n) for n in range(4)]
    assert [r.get(timeout=10) for r in results] == [0, 1, 2, 3]
