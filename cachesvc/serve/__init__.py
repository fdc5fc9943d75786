"""The wires: gRPC and the admin port. Everything below them is synchronous."""
