from tasks import check


def test_codes(celery_pool_worker):
    results = [check.delay(0.4, 1), check.delay(0.2, 2)]
    assert [each.get(timeout=10) for each in results] == [1, 2]
