import pytest
from tasks import send


def test_send(celery_pool_worker):
    with pytest.raises(Exception, match="refused"):
        send.delay("bob").get(timeout=10)
