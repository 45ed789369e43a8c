"""Models that write texts where clips have none: transcripts of what is said, descriptions of what is seen, answers.

    clips without text -> work (claimed, batched) -> transcriber | describer -> text store -> filled clip table
    clips or chunks, a question -> work -> answerer -> text store -> an answer each

`base` is what all share, `chat` what vision-language models do, `build` makes the configured ones, `work` runs one,
`fill` those of a configuration, `ask` one that is asked.
"""
