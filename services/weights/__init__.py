"""What engines share about models on disk: folders that are safe to load, and where they will run.

Only engines import it, because parts of it import torch and transformers.
"""
