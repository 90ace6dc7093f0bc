from tasks import fetch


def test_fetch(celery_pool_worker):
    results = [fetch.delay(["a"] * n) for n in range(3)]
    assert [result.get(timeout=10) for result in results] == [0, 1, 2]
