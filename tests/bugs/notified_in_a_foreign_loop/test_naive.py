import os
from pathlib import Path

from tasks import notify


def test_everyone_is_notified(celery_pool_worker):
    pending = [notify.delay(user) for user in ("ann", "bob", "cy")]
    users = [p.get(timeout=10) for p in pending]
    for user in users:
        assert Path(os.environ["CASE_DIR"], f"{user}.sent").exists()
