import pytest
from celery.exceptions import TimeLimitExceeded
from tasks import crawl


def test_a_site_without_end_is_given_up(celery_pool_worker):
    with pytest.raises(TimeLimitExceeded):
        crawl.delay(10).get(timeout=10)
