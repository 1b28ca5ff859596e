"""Gateways people already run, driven by the published epoch."""
