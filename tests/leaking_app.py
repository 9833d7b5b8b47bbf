"""Streamlit with a socket that tells which texts are in the memory of its process.

python -m tests.leaking_app SOCKET run streamlit_app.py [--server.port PORT]
"""

import socket
import sys
import threading

from streamlit.web.cli import main

from tests import leaks

_MOST_BYTES = 1000


def texts_with(canary, path):
    """Return the texts with *canary* in the memory of the app whose socket is at *path*, as one text; "" if there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(canary.encode())
        return b"".join(iter(lambda: connection.recv(_MOST_BYTES), b"")).decode()


def _answer(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            canary = connection.recv(_MOST_BYTES).decode()
            connection.sendall("\n".join(leaks.found(canary)).encode())


if __name__ == "__main__":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv.pop(1))
    listener.listen()
    threading.Thread(target=_answer, args=[listener], daemon=True).start()
    sys.argv[0] = "streamlit"
    main()
