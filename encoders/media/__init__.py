"""Media of one clip: frames and sound of a span of a file, decoded once, with every fallback that a corpus has.

path, start, end -> decoding -> frames [T, H, W, 3], waveform [samples] -> clip
"""
