"""The Open Inference Protocol over REST, as KServe and Triton speak it."""
