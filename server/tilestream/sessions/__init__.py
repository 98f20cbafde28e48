"""Sessions: their states, their bounded inboxes, their statistics, and how many there may be.

No torch and no gRPC: everything here runs on the frontend's event loop and is plain Python.
"""
