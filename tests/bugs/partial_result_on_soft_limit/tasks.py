import time

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

app = Celery("search")


@app.task(soft_time_limit=1)
def search(shards):
    found = []
    try:
        for shard in range(shards):
            time.sleep(0.3)
            found.append(shard)
    except SoftTimeLimitExceeded:
        found.append("and more")
    return found
