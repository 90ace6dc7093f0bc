from tasks import fetch


def test_fetch(celery_pool_worker):
    results = [fetch.delay(number) for number in range(3)]
    assert [result.get(timeout=5) for result in results] == [0, 1, 2]
