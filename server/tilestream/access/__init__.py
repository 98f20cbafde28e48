"""Who calls, what that caller may do, and how much of it. No torch and no gRPC."""
