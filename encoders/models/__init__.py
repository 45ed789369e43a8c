"""Encoders with pretrained weights, one file a family; none is imported before a configuration names it.

    clips -> `prepare` in workers -> one batch on the device -> sequences [T, width]

`hub` is what models of the hub share.
"""
