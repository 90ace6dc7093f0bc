from tasks import dump


def test_dump(celery_pool_worker):
    for table in ("users", "orders", "carts", "mails", "items", "logs"):
        assert dump.delay(table, 20).get(timeout=20) == 20
