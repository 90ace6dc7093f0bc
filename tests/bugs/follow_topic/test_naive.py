from tasks import follow


def test_follow(celery_pool_worker):
    assert follow.delay("prices").get(timeout=10) == "prices"
