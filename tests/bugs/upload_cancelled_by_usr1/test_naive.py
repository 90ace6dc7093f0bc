import os
import time
import uuid

from tasks import cancel, part_file, upload


def test_cancelled_upload_leaves_nothing(celery_pool_worker):
    name = uuid.uuid4().hex
    running = upload.delay(name, 2.5)
    while not os.path.exists(part_file(name)):
        time.sleep(0.05)
    cancel(running)
    time.sleep(0.8)
    assert not os.path.exists(part_file(name))
