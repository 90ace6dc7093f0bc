from tasks import offer


def test_offer(celery_pool_worker):
    results = [offer.delay([1, 2]), offer.delay([3, 4])]
    assert [result.get(timeout=10) for result in results] == [30, 70]
