"""audformat databases: tables of files or of segments, their schemes, splits and speakers.

db.yaml + db.<table>.parquet + audio/001.wav -> one row a file, or a segment of one
"""

from corpora.audformat.corpus import AudformatCorpus

__all__ = ["AudformatCorpus"]
