from tasks import ask


def test_ask(celery_pool_worker):
    for item in ("bolt", "nut", "screw"):
        assert ask.delay(item).get(timeout=10) == [item, item]
