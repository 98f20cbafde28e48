"""What is told of a mask beside it, or instead of it: areas, instances, regions, events.

No torch, no gRPC. ``wishes`` has what sessions ask for, ``findings`` what they are told, ``compute`` makes
one of the other.
"""
