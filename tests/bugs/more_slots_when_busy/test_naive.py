import pytest
from tasks import mail


@pytest.mark.celery_pools(options=("--autoscale=3,1",))
def test_mail(celery_pool_worker):
    assert mail.delay("a@example.org").get(timeout=10)
