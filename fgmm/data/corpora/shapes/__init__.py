"""The world of narrated shapes: scenes, and how they are seen, heard and told.

``scene`` says what is where and how it moves; ``picture``, ``sound`` and ``narration`` render it.
The corpus made of it is ``fgmm.data.sources.narrated_shapes``.
"""
