"""The page: live sessions, their latest pictures and how the server is doing, for people with a browser.

Not a part of the API: what these modules answer on ``/api/`` is for the files in ``static/`` alone.
"""
