from celery import group
from tasks import crawl


def test_crawl(celery_pool_worker):
    assert group(crawl.s(3), crawl.s(1000)).delay().get(timeout=10) == [["whole", 3], ["partial", True]]
