"""The floor of refusing: a bare grpcio server that refuses every call itself, before any handler.

``python -m bench.refuser`` prints the address it listens on, and serves until it is terminated.
"""

from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.echo import SERVICE


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(1), maximum_concurrent_rpcs=0)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Lookup": grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
