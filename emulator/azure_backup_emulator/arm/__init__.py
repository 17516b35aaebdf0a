"""Azure Resource Manager and Entra ID in front of the model: sign-in, rights, quotas, routes, faults."""
