"""The science: tasks, batches, models, losses, balancing and metrics, in torch and numpy alone."""
