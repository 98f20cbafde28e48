"""TLS: the server's certificates, which follow their files, and what its commands need as clients."""
