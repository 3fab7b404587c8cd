"""Batches, the device they run on, and a training that resumes with nothing lost."""
