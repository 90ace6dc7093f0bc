import subprocess
import sys
import threading

from celery import Celery

app = Celery("audit")

sink = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, text=True)
writing = threading.Lock()


@app.task
def note(text):
    with writing:
        sink.stdin.write(text + "\n")
        sink.stdin.flush()
    return len(text)
