import time

from celery import Celery
from celery.utils.log import get_task_logger

app = Celery("tolerant_pages")
app.conf.task_annotations = {"tasks.crawl": {"soft_time_limit": 1}}
log = get_task_logger(__name__)


class Tolerant:
    """One bad page must not end the crawl."""

    failed = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if value is not None:
            self.failed += 1
            log.warning("skipped a page: %r", value)
        return not isinstance(value, (KeyboardInterrupt, SystemExit))


@app.task(name="tasks.crawl")
def crawl(pages):
    tolerant = Tolerant()
    for _ in range(pages):
        with tolerant:
            time.sleep(0.7)
    return pages
