import pytest
from tasks import GatewayError, pay


def test_declined(celery_pool_worker):
    with pytest.raises(GatewayError):
        pay.delay(3).get(timeout=10)
