from tasks import book


def test_book(celery_pool_worker):
    for amount in range(8):
        assert book.delay(amount).get(timeout=10) == amount
