import uuid

import pytest
from tasks import balance, book


def test_refused_booking_leaves_the_others(celery_pool_worker):
    rent, gift = uuid.uuid4().hex, uuid.uuid4().hex
    good = book.delay(rent, 700, 0.5)
    bad = book.delay(gift, -50, 0.2)
    assert good.get(timeout=10) == 700
    with pytest.raises(ValueError):
        bad.get(timeout=10)
    assert balance.delay(rent).get(timeout=10) == 700
