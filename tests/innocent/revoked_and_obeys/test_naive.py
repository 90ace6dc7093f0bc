import time

import pytest
from celery.contrib.abortable import AbortableAsyncResult
from tasks import app, scan, wait


def test_abort(celery_pool_worker):
    result = scan.delay(100)
    time.sleep(0.3)
    AbortableAsyncResult(result.id, app=app).abort()
    assert result.get(timeout=30) < 100


@pytest.mark.celery_pools("prefork", "gevent", "eventlet")
def test_terminate(celery_pool_worker):
    result = wait.delay(3)
    time.sleep(0.4)
    result.revoke(terminate=True)
    celery_pool_worker.drain()


def test_revoked_when_it_has_ended(celery_pool_worker):
    result = wait.delay(0.01)
    result.get(timeout=30)
    result.revoke(terminate=True)
    app.control.revoke(result.id)
