"""What changes within a recording: measures by moment, and moments of an axis, laid out for templates to draw.

measures -> strips
"""
