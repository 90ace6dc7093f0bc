from tasks import calculate


def test_sums(celery_pool_worker):
    for number in range(4):
        assert calculate.delay(f"{number} + 1").get(timeout=10) == number + 1
