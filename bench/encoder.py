"""The floor of a semantic hit: a bare grpcio server whose handler embeds the prompt and does nothing else.

What a lookup needs beyond it is search, rows and judgement; what it needs beyond the echo and the engine is what the wire
and the engine cost when they share a process. Run as ``python -m bench.encoder THREADS``, with input and output as
``bench.echo`` has them.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.calls import say
from bench.echo import serve
from cachesvc.making import make_embedder
from cachesvc.settings_sections import EmbedderSettings
from cachesvc.v1 import cache_pb2 as pb

_PATIENCE_S = 30.0


def main() -> None:
    threads = int(sys.argv[1])
    reply = sys.stdin.buffer.read()
    embedder = make_embedder(EmbedderSettings(), say)

    def encode(request: bytes, _context: grpc.ServicerContext) -> bytes:
        embedder.embed(pb.LookupRequest.FromString(request).prompt, _PATIENCE_S)
        return reply

    serve(grpc.server(ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)]), {"Lookup": encode})


if __name__ == "__main__":
    main()
