"""A small shop on Celery."""

from shop.celery import app, continuum

__all__ = ["app", "continuum"]
