"""What is on a user's disk, read into one table of clips and labels per corpus."""
