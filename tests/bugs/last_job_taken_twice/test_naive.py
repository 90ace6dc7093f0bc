from celery import group

from tasks import work_off


def test_the_backlog_is_worked_off(celery_pool_worker):
    done = group(work_off.s() for _ in range(2))().get(timeout=10, propagate=False)
    assert len(done) == 2
