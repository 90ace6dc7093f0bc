import socketserver
import threading
import time

import pytest

from tasks import refresh_rates

RATES = {"USD": 1.09, "GBP": 0.85, "CHF": 0.97, "JPY": 163.2}


class RateHandler(socketserver.StreamRequestHandler):
    def handle(self):
        currency = self.rfile.readline().strip().decode()
        time.sleep(0.3)
        self.wfile.write(str(RATES[currency]).encode())


@pytest.fixture
def rate_server():
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RateHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address
        server.shutdown()


def test_refresh(celery_pool_worker, rate_server):
    host, port = rate_server
    jobs = [refresh_rates.delay(host, port, pair) for pair in (["USD", "GBP"], ["CHF", "JPY"], ["USD"])]
    assert jobs[0].get(timeout=10) == {"GBP": 0.85, "USD": 1.09}
    assert jobs[1].get(timeout=10) == {"CHF": 0.97, "JPY": 163.2}
    assert jobs[2].get(timeout=10) == {"USD": 1.09}
