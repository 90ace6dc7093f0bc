from tasks import ship


def test_ship(celery_pool_worker):
    assert ship.delay(7).get(timeout=10) == "shipped 7"
