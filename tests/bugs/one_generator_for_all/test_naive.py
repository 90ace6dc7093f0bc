from tasks import ticket


def test_ticket(celery_pool_worker):
    results = [ticket.delay(holder) for holder in range(3)]
    for each in results:
        each.get(timeout=10, propagate=False)
