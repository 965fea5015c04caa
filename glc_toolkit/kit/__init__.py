"""``glc plugins new``: a plugin package that works from the start, to be changed into one's own.

``templates/`` holds one component of each kind, a Python file that is copied as it is, and the files around it.
"""
