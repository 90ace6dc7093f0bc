import time

from tasks import enter


def test_enter(celery_pool_worker):
    results = [enter.delay("tea", 1)]
    time.sleep(0.2)
    results += [enter.delay("jam", amount) for amount in range(7)]
    assert [result.get(timeout=8) for result in results] == [1] * 8
