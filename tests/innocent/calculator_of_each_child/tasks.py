import subprocess
import sys
import threading

from celery import Celery, signals

app = Celery("sums")

ANSWERS = "import sys\nfor line in sys.stdin: print(eval(line), flush=True)"
asking = threading.Lock()


def start():
    return subprocess.Popen([sys.executable, "-c", ANSWERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


program = start()


@signals.worker_process_init.connect
def start_again(**_):
    global program
    program = start()


@app.task
def calculate(question):
    with asking:
        program.stdin.write(question + "\n")
        program.stdin.flush()
        return int(program.stdout.readline())
