"""Faces: found, followed, measured, cut out.

frames -> landmarks [T, 478, 3] -> measures (22 cues) and mesh (an encoder); or -> crops, of all faces or of one person
"""
