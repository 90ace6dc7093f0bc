import socketserver
import threading

import pytest
from tasks import ask


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture
def port():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_ask(celery_pool_worker, port):
    for _ in range(3):
        results = [ask.delay(port, f"item {number}") for number in range(8)]
        assert [result.get(timeout=10) for result in results] == [f"item {number}" for number in range(8)]
