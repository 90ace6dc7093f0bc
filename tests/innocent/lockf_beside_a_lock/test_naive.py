from tasks import last, ticket


def test_tickets_are_unique(celery_pool_worker):
    results = [ticket.delay(customer) for customer in "abcd"]
    assert len({each.get(timeout=10) for each in results}) == 4


def test_readers_read_at_once(celery_pool_worker):
    results = [last.delay() for _ in range(4)]
    assert len({each.get(timeout=10) for each in results}) == 1
