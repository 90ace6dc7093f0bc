import time

from tasks import app, step


def test_cancel(celery_pool_worker):
    result = step.delay(1.5)
    time.sleep(0.4)
    app.control.terminate(result.id)
    time.sleep(1.3)
