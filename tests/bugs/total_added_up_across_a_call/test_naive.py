from tasks import add


def test_add(celery_pool_worker):
    results = [add.delay(order) for order in range(2)]
    assert [each.get(timeout=10) for each in results] == [0, 1]
