from tasks import ask


def test_ask(celery_pool_worker):
    assert ask.delay("bolt").get(timeout=10) == "bolt"
    assert ask.delay("nut").get(timeout=10) == "nut"
