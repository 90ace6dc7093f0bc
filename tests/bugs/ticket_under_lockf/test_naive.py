from tasks import ticket


def test_tickets_are_unique(celery_pool_worker):
    results = [ticket.delay(customer) for customer in "abc"]
    assert len({each.get(timeout=10) for each in results}) == 3
