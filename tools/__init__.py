"""Programs of this repository, and what benches and tests need too: servers, Prometheus, containers."""
