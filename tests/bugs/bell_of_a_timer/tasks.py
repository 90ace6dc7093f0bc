import _thread
import threading
import time

from celery import Celery

app = Celery("puzzles")


def enough(seconds):
    """Whoever thinks longer than that gets a KeyboardInterrupt."""
    bell = threading.Timer(seconds, _thread.interrupt_main)
    bell.daemon = True
    bell.start()
    return bell


@app.task
def solve(board, moves):
    bell = enough(0.6)
    solved = False
    try:
        for _ in range(moves):
            time.sleep(0.1)
        solved = True
    except KeyboardInterrupt:
        pass
    finally:
        bell.cancel()
    return {"board": board, "solved": solved}
