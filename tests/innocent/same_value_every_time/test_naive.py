from tasks import scan


def test_scans(celery_pool_worker):
    assert [each.get(timeout=10) for each in [scan.delay(n) for n in range(4)]] == [0, 1, 2, 3]
    assert scan.delay(5).get(timeout=10) == 5
