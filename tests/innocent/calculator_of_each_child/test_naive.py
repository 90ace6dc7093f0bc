from tasks import calculate


def test_sums(celery_pool_worker):
    results = [calculate.delay(f"{number} + 1") for number in range(6)]
    assert [each.get(timeout=10) for each in results] == [number + 1 for number in range(6)]
