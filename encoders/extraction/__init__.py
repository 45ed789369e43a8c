"""Extraction: the vectors, sequences and values in time that the store lacks, made by several processes, and read back.

clips - stored = jobs -> workers decode -> device batches encode -> store
"""
