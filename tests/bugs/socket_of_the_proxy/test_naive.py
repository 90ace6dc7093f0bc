import time

from tasks import crawl, notify


def test_both_go_through(celery_pool_worker):
    crawled = crawl.delay("http://a")
    time.sleep(0.05)
    notified = notify.delay("done")
    assert notified.get(timeout=10) and crawled.get(timeout=10)
