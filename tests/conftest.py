"""Settings of all tests: nothing may fail because the machine is slow."""

from hypothesis import HealthCheck, settings

settings.register_profile("tilestream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tilestream")
