import socket

from celery import group

from tasks import push


def test_push_sends_the_payload(celery_pool_worker):
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:
        port = server.getsockname()[1]
        sent = group(push.s(port, "x" * n) for n in (3, 4, 5)).apply_async().get(timeout=10)
        assert sent == [3, 4, 5]
