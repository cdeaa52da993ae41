"""What processes tell of themselves: metrics and traces. Shared by the edge and the services."""
