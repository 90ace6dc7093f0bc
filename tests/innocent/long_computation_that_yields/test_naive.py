from tasks import ping, simulate


def test_ping_beside_a_simulation(celery_pool_worker):
    long = simulate.delay()
    assert ping.delay().get(timeout=10) == "pong"
    assert long.get(timeout=20)
