import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tasks import TOKENS, list_invoices


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        token = self.headers["Authorization"].removeprefix("Bearer ")
        tenant = {value: key for key, value in TOKENS.items()}[token]
        time.sleep(0.2)
        body = json.dumps({"invoices": [f"{tenant}-{self.path[-1]}"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def api():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_list_invoices(celery_pool_worker, api):
    jobs = {tenant: list_invoices.delay(api, tenant) for tenant in TOKENS}
    for tenant, job in jobs.items():
        assert job.get(timeout=10) == [f"{tenant}-{n}" for n in (1, 2, 3)]
