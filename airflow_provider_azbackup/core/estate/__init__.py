"""One verdict about many protected items in many vaults."""
