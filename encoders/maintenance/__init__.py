"""Care of media and stores: media inspected, stores taken stock of, leftovers found and removed."""
