import pytest
from reports import render


@pytest.mark.celery_budget(throughput={"ratio_to": "prefork", "at_least": 5})
@pytest.mark.celery_pools("prefork", "threads", concurrency=2)
def test_slots_help_a_lot(celery_pool_worker):
    celery_pool_worker.map(render, [5] * 6)
