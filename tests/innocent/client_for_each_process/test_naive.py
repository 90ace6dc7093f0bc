from tasks import pid


def test_pid(celery_pool_worker):
    results = [pid.delay(number) for number in range(6)]
    assert all(each.get(timeout=10) for each in results)
