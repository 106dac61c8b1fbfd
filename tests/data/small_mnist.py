"""Small IDX files in MNIST's place, ways to spoil them, and a loopback server to fetch them from."""

import gzip
import http.server
import struct
from pathlib import Path

import torch

from flowlib.data import mnist

REAL = mnist.FILES
TRAIN = "train-images-idx3-ubyte"
CLOSED = "http://127.0.0.1:1/"  # nothing listens on port 1
BOTH_WAYS = r"Either .* or put .* DIR/MNIST/raw and set FLOWLIB_DATA=DIR"


def encode(tensor: torch.Tensor) -> bytes:
    header = struct.pack(f">BBBB{tensor.ndim}I", 0, 0, 8, tensor.ndim, *tensor.shape)
    return header + tensor.to(torch.uint8).numpy().tobytes()


def put(folder: Path, contents: dict[str, bytes], packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def truncate(content: bytes) -> bytes:
    return gzip.compress(content)[:-40]


def flip(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages`, path -> bytes, and keeps the paths that were asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Length", str(len(page or b"")))
        self.end_headers()
        self.wfile.write(page or b"")

    def log_message(self, *_: object) -> None:
        pass


def serve(server: Server, contents: dict[str, bytes], prefix: str = "/") -> None:
    server.pages |= {f"{prefix}{name}.gz": gzip.compress(content) for name, content in contents.items()}
