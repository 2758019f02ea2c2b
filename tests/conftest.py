"""Hypothesis draws the same examples in every run, and no example is timed."""

from hypothesis import HealthCheck, settings

settings.register_profile("fastmlp", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("fastmlp")
