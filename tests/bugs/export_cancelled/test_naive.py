import os
import time

from tasks import export


def test_a_cancelled_export_stops(celery_pool_worker):
    file = os.path.join(os.environ["CASE_DIR"], "export.csv")
    if os.path.exists(file):
        os.remove(file)
    result = export.delay(20)
    while not os.path.exists(file):
        time.sleep(0.02)
    result.revoke(terminate=True)
    time.sleep(0.2)
