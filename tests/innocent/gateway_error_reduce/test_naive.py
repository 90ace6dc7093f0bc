import pytest
from tasks import GatewayError, charge


def test_charge(celery_pool_worker):
    assert charge.delay(200).get(timeout=10) == "paid"
    with pytest.raises(GatewayError) as caught:
        charge.delay(503).get(timeout=10)
    assert caught.value.status == 503
    assert str(caught.value) == "gateway (503)"
