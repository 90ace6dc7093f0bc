from tasks import check


def test_codes(celery_pool_worker):
    results = [check.delay(0.2 + code / 20, code) for code in range(6)]
    assert [each.get(timeout=10) for each in results] == list(range(6))
