from tasks import restock, sell, transfer


def test_transfers(celery_pool_worker):
    results = [transfer.delay("savings", "current"), transfer.delay("current", "savings")]
    assert [tuple(result.get(timeout=10)) for result in results] == [("savings", "current"), ("current", "savings")]


def test_a_sale_beside_a_delivery(celery_pool_worker):
    results = [sell.delay(), restock.delay()]
    assert [result.get(timeout=10) for result in results] == ["sold", "restocked"]
