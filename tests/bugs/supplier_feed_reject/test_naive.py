import time

from tasks import load_feed


def test_good_feed(celery_pool_worker):
    assert load_feed.delay("cup;2.5\npot;9").get(timeout=10) == 2


def test_bad_feed_does_not_stop_the_next(celery_pool_worker):
    load_feed.delay("cup;2.5\npot")
    time.sleep(0.5)
    assert load_feed.delay("cup;2.5").get(timeout=5) == 1
