from tasks import rate, share


def test_shares(celery_pool_worker):
    results = [share.delay(10, 3), rate.delay(10), share.delay(1, 7)]
    assert [each.get(timeout=10) for each in results] == ["3.3333333", "3.3333333", "0.14285714"]
