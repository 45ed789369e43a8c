"""The catalogue: every model that a configuration can name, as data, and where its weights are.

    id -> entry (factory "module:Class", width, revision, licence, paper) -> checkpoint

Nothing here imports an encoder; `encoders.creation` does.
"""
