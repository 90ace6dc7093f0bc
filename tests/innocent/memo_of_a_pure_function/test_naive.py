from tasks import route


def test_route(celery_pool_worker):
    results = [route.delay("rome") for _ in range(6)]
    assert all(each.get(timeout=10) == 8 for each in results)
    results = [route.delay("rome") for _ in range(6)]
    assert all(each.get(timeout=10) == 8 for each in results)
