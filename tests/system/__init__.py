"""Rules of the whole repository, and commands from end to end."""
