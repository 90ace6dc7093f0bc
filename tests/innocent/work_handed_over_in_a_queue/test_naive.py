from tasks import work


def test_work(celery_pool_worker):
    results = [work.delay(number) for number in range(4)]
    assert all(each.get(timeout=10) for each in results)
