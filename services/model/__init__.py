"""ModelService: the catalogue of models, and the control loop that gets them served."""
