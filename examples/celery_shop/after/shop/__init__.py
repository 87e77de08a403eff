"""A small shop on Celery, whose orders are workflows."""

from shop.celery import app, continuum

__all__ = ["app", "continuum"]
