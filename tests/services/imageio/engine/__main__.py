"""python -m engine CONFIG.json; the file is written by tests/services/imageio/start."""

import json
import signal
import sys
import threading

from .model import Engine
from .server import Server


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    engine = Engine(config)
    server = Server(config, engine)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(0.1)
    engine.shutdown()


main()
