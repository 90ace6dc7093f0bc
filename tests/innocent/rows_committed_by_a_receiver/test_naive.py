from tasks import book, cancel


def test_book(celery_pool_worker):
    assert book.delay("ann").get(timeout=10) == 1
    assert cancel.delay("ann").get(timeout=10) in (0, 1)
