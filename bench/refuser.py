"""The floor of refusing: a bare grpcio server that refuses every call itself, before any handler.

``python -m bench.refuser`` prints the address it listens on, and serves until it is terminated.
"""

from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.echo import serve


def main() -> None:
    serve(
        grpc.server(ThreadPoolExecutor(1), maximum_concurrent_rpcs=0),
        {"Lookup": lambda request, context: request},
    )


if __name__ == "__main__":
    main()
