"""Extraction: the vectors and sequences that the store lacks, made by several processes, and read back.

clips - stored = jobs -> workers decode -> device batches encode -> store
"""
