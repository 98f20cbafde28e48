"""The server's own certificates: read and checked, read again when they change, shown to clients."""
