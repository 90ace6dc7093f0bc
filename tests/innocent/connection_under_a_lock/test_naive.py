from tasks import pay


def test_payments(celery_pool_worker):
    results = [pay.delay(number) for number in "abc"]
    assert [each.get(timeout=10) for each in results] == ["a", "b", "c"]
