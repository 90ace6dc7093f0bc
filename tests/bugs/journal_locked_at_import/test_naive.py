from tasks import book


def test_all_is_booked(celery_pool_worker):
    results = [book.delay(amount) for amount in (1, 2, 3)]
    assert [each.get(timeout=10) for each in results] == [1, 2, 3]
