"""What requests used: written down beside the service that served them, and told to the ledger."""
