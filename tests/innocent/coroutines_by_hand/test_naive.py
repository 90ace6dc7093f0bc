from celery import group

from tasks import crawl


def test_crawl(celery_pool_worker):
    assert group(crawl.s(n) for n in (2, 3)).apply_async().get(timeout=10) == [[0, 10], [0, 10, 20]]
