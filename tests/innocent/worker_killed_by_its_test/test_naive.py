import os
import time

from tasks import careful


def test_kill(celery_pool_worker):
    begun = os.path.join(os.environ["CASE_DIR"], "begun")
    before = os.path.getsize(begun) if os.path.exists(begun) else 0
    careful.delay(0.6)
    while not os.path.exists(begun) or os.path.getsize(begun) == before:
        time.sleep(0.02)
    celery_pool_worker.kill()
