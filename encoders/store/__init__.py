"""The feature store: Parquet parts below `<store>/<corpus>/<modality>/<encoder's key>/`, each whole or not there.

    claims (who works on what) -> vector | sequence | timed | text store -> parts, and a ledger of failures

Several processes and machines may share one.
"""
