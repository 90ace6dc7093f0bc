import pytest
from photos import app, resize


@pytest.fixture
def workers(celery_pool_cluster):
    cpu, io = {"pool": "prefork", "queues": ["cpu"], "concurrency": 1}, {"pool": "gevent", "queues": ["io"]}
    return celery_pool_cluster({"cpu": cpu, "io": io})


def test_forgotten(workers):
    app.send_task("photos.forgotten").get()


@pytest.mark.celery_expect(worker="cpu")
def test_wrong_route(workers):
    resize.apply_async(("cat",), queue="io")
