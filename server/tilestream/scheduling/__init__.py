"""Scheduling: whose frame is computed next. Plain data in, plans out; no torch, no gRPC."""
