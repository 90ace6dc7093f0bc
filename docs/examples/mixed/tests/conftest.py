import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

#: Seconds that the site takes for an answer.
DELAY_S = 0.2


class Site(BaseHTTPRequestHandler):
    """A site whose page ``/20000`` says 20000."""

    def do_GET(self):
        time.sleep(DELAY_S)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path[1:].encode())

    def log_message(self, *args):
        """Say nothing of requests."""


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 200


@pytest.fixture(scope="session")
def site():
    """The address of a site that takes its time."""
    with Server(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def workers(celery_pool_cluster):
    """The two workers of production, as on the command lines of the README."""
    return celery_pool_cluster(
        {
            "cpu": {"pool": "prefork", "queues": ["cpu"], "concurrency": 2},
            "io": {"pool": "gevent", "queues": ["io"], "concurrency": 100},
        }
    )
