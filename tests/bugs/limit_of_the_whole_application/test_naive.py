import pytest
from tasks import wait_for_upload


def test_what_never_comes_is_an_error(celery_pool_worker):
    with pytest.raises(Exception, match="TimeLimitExceeded"):
        wait_for_upload.delay("orders.csv").get(timeout=10)
