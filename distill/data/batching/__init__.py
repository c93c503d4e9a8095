"""Which rows a step trains on, and how they are packed into batches."""
