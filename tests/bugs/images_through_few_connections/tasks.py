import urllib3
from celery import Celery

app = Celery("media")

http = urllib3.PoolManager(
    maxsize=1,
    block=True,
    timeout=urllib3.Timeout(connect=2, read=5),
    headers={"User-Agent": "media-fetcher/2.1"},
)


def download(url):
    response = http.request("GET", url, retries=False, pool_timeout=0.2)
    if response.status != 200:
        raise RuntimeError(f"{url}: {response.status}")
    return response.data


@app.task
def fetch_image(url):
    return len(download(url))
