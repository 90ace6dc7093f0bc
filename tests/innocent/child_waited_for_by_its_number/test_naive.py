from tasks import check, start


def test_codes(celery_pool_worker):
    results = [check.delay(0.2, 1), check.delay(0.1, 2), start.delay(3), start.delay(4)]
    assert [each.get(timeout=10) for each in results] == [1, 2, 3, 4]
