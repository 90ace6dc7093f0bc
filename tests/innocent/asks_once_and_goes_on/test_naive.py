from tasks import app, whole


def test_whole(celery_pool_worker):
    assert whole.delay(3).get(timeout=30) == 3
    asked = app.control.inspect(timeout=10, limit=1)
    assert asked.ping()
    assert asked.active() is not None
