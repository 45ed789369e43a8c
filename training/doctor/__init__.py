"""The doctor: everything that is wrong with data and settings, found before anything is trained."""
