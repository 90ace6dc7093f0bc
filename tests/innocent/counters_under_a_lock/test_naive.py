from tasks import work


def test_work(celery_pool_worker):
    results = [work.delay(number) for number in range(6)]
    assert [each.get(timeout=10) for each in results] == list(range(6))
