from celery import group

from tasks import sync_shop


def test_sync(celery_pool_worker):
    shops = ["north", "south", "west", "east"]
    result = group(sync_shop.s(shop, 0.2) for shop in shops).apply_async()
    assert result.get(timeout=10) == shops
