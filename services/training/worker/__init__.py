"""The worker: the process that trains one job, out of its folder and nothing else.

`python -m services.training.worker FOLDER ATTEMPT`; see `services.training.folder`.
"""
