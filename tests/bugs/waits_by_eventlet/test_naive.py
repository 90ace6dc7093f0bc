from tasks import cheapest


def test_cheapest(celery_pool_worker):
    assert cheapest.delay(["north", "south"]).get(timeout=3) == "north"
    assert cheapest.delay(["south", "harbour"]).get(timeout=3) == "harbour"
