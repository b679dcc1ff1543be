"""Repositories, versions and data instances: what every datatype stands on."""
