"""The gRPC frontend: validation, the stream of a session, error mapping. No torch."""
