"""Generated stubs of proto/tilestream/v1; `make proto` writes them, nobody edits them."""
