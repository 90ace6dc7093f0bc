from tasks import order, orders


def test_declined(celery_pool_worker, tmp_path):
    path = str(tmp_path / "shop")
    bad = order.delay(path, "tv", "expired", 0.5)
    good = order.delay(path, "radio", "valid", 0.2)
    assert good.get(timeout=10) == "radio"
    bad.get(timeout=10, propagate=False)
    assert orders.delay(path).get(timeout=10) == ["radio"]
