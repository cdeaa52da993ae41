"""What keys, roles, limits and the usage ledger cost."""
