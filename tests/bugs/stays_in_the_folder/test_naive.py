from tasks import checkout


def test_checkout(celery_pool_worker):
    assert "shop" in checkout.delay("shop").get(timeout=10)
    assert "depot" in checkout.delay("depot").get(timeout=10)
