"""Here lives the way to Celery: activities that run in Celery workers, and nothing that imports Celery elsewhere.

Two sides meet here only in the journal and in the shape of a message (:mod:`~continuum.celery_executor.messages`):
the dispatcher's (routes, transport) and the Celery worker's (tasks, requests, delivery, keeper). Both find their
instance through :mod:`~continuum.celery_executor.binding`.
"""
