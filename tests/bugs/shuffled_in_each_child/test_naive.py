from tasks import ticket


def test_tickets(celery_pool_worker):
    results = [ticket.delay() for _ in range(6)]
    assert all(len(result.get(timeout=10)) == 6 for result in results)
