"""A small shop on Celery."""

from shop.celery import app

__all__ = ["app"]
