"""Models that write texts where clips have none: transcripts of what is said, descriptions of what is seen.

    clips without text -> work (claimed, batched) -> transcriber | describer -> text store -> filled clip table

`base` is what both share, `build` makes the configured ones, `fill` runs them.
"""
