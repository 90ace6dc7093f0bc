import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks import fetch_image


class Cdn(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.5)
        body = bytes(2048)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def cdn():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cdn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_fetch_images(celery_pool_worker, cdn):
    jobs = [fetch_image.delay(f"{cdn}/img/{n}.jpg") for n in range(4)]
    assert [job.get(timeout=10) for job in jobs] == [2048] * 4
