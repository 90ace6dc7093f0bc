from tasks import ping, scan


def test_others_are_not_held_up(celery_pool_worker):
    scan.delay(5_000_000)
    assert ping.delay().get(timeout=1.5) == "pong"
