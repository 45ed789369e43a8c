"""Commands of the terminal: each takes what was typed, calls a room, prints, and returns an exit status.

`console` declares them and imports each only when it is called.
"""
