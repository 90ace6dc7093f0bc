import uuid

import pytest
from tasks import order


def test_orders(celery_pool_worker):
    ann, bob = (uuid.uuid4().hex for _ in range(2))
    good = order.delay(ann, {"tea": 1, "milk": 2, "cake": 3})
    bad = order.delay(bob, {"tea": 1000})
    with pytest.raises(ValueError):
        bad.get(timeout=10)
    assert good.get(timeout=10) == 3
