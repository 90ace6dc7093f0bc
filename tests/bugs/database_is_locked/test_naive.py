from tasks import book


def test_two_bookings(celery_pool_worker):
    results = [book.delay(amount) for amount in (10, 20)]
    assert [result.get(timeout=10) for result in results] == [10, 20]
