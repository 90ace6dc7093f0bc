from tasks import ship


def test_ship(celery_pool_worker):
    results = [ship.delay("temperature", 20_000), ship.delay("pressure", 20_000), ship.delay("wind", 20_000)]
    assert [result.get(timeout=10) for result in results] == [20_000] * 3
