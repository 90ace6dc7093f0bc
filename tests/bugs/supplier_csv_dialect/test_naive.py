from celery import group

from tasks import read_feed


def test_feeds(celery_pool_worker):
    feeds = group(read_feed.s(s) for s in ("north", "south", "west")).apply_async().get(timeout=10)
    assert feeds == [[{"sku": "A1", "price": "10"}]] * 3
