"""First configurations: what the columns of a table and the names of recordings are, guessed and said how.

table or folder -> recordings -> columns and labels -> draft -> commented TOML
"""
