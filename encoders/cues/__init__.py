"""Described behaviour without a language model: cues of face, gaze, head, body and voice, put into checkable sentences.

measures over time -> events (kind, start, end, strength) -> narration -> the encoder `cue-narrative`
"""
