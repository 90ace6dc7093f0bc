import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

from celery import Celery

app = Celery("quotes")


def quote(name):
    time.sleep(0.1)
    return name


@app.task(throws=(CancelledError,))
def second_quote(names, patience):
    with ThreadPoolExecutor(max_workers=1) as executor:
        futures = [executor.submit(quote, name) for name in names]
        time.sleep(patience)
        futures[-1].cancel()
        return futures[-1].result()
