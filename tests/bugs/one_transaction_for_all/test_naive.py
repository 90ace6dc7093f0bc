from tasks import pay


def test_payments(celery_pool_worker):
    assert pay.delay("first", 0.01).get(timeout=10) == "paid"
    results = [pay.delay("declined", 0.3), pay.delay("paid", 0.1)]
    assert [each.get(timeout=10) for each in results] == ["declined", "paid"]
