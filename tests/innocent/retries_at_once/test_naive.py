from tasks import charge


def test_charge(celery_pool_worker):
    for _ in range(4):
        results = [charge.delay(number) for number in range(5)]
        assert [each.get(timeout=20) for each in results] == [f"charged {number}" for number in range(5)]
