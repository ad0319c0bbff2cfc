"""Charts for a page or a paper: from plain data to a matplotlib figure, one kind per file.

``style`` says how they look, ``saving`` writes them. Nothing here reads a run or knows a workspace.
"""
