"""Message passing, MLPs and the model templates that put pools between them."""
