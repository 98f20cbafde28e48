package tilestream

// version goes to the server with every call, as the user agent; `make version` writes it.
const version = "0.1.0"
