"""The floor of a call: a bare grpcio thread-pool server that takes bytes and gives bytes.

It answers the method names of ``Lookup`` and ``Store`` with one fixed reply, so that the very same client stub
calls it: what differs from cachesvc is the server alone. Run as ``python -m bench.echo THREADS``; the
reply's bytes come on standard input, the address goes to standard output; it ends when killed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "cachesvc.v1.CacheService"


def main() -> None:
    threads = int(sys.argv[1])
    reply = sys.stdin.buffer.read()

    def echo(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        return reply

    server = grpc.server(ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(echo) for name in ("Lookup", "Store")
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
