"""The floor of a call: a bare grpcio thread-pool server that takes bytes and gives bytes.

It answers the method names of ``Lookup`` and ``Store`` with one fixed reply, so that the very same client stub
calls it: what differs from cachesvc is the server alone. Run as ``python -m bench.echo THREADS``; the
reply's bytes come on standard input, the address goes to standard output; it ends when killed.
"""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "cachesvc.v1.CacheService"


def main() -> None:
    threads = int(sys.argv[1])
    reply = sys.stdin.buffer.read()

    def echo(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return reply

    serve(
        grpc.server(ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)]),
        {"Lookup": echo, "Store": echo},
    )


def serve(server: grpc.Server, methods: Mapping[str, Callable[[bytes, grpc.ServicerContext], bytes]]) -> None:
    """Answer these methods of the service on a free port, whose address is printed, until killed."""
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
