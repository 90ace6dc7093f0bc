from tasks import app, whole


def test_whole(celery_pool_worker):
    assert whole.delay(3).get(timeout=30) == 3
    assert app.control.ping(timeout=3)
    assert app.control.inspect(timeout=3).active() is not None
