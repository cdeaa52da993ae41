"""TrainingService: files that are uploaded whole, and the jobs that train on them."""
