import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks import shipping_price


class Carrier(BaseHTTPRequestHandler):
    def do_GET(self):
        if "pallet" in self.path:
            time.sleep(1.5)
        body = b'{"price": 5.5}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def carrier():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Carrier)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/quote"
    server.shutdown()


def test_shipping_price(celery_pool_worker, carrier):
    assert shipping_price.delay(carrier, "parcel").get(timeout=10) == {"price": 5.5, "source": "live"}
    assert shipping_price.delay(carrier, "pallet").get(timeout=10) == {"price": 89.0, "source": "flat"}
