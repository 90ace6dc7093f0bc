import pytest
from tasks import OutOfStock, ship


def test_out_of_stock(celery_pool_worker):
    with pytest.raises(OutOfStock):
        ship.delay(4).get(timeout=10)
