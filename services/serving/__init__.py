"""What every process that serves models shares: the loop that keeps them as the catalogue wants."""
