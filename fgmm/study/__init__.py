"""Studies: grids of training runs, and the tables and figures made of their results.

``python -m fgmm.study`` tunes first (``tuning``), then runs a grid (``grid``, ``programs``,
``schedule``) and keeps one small file for each cell (``outcome``). ``python -m fgmm.study.page``
makes a page of these files (``comparison``, ``intervals``, ``headline``, ``figures``). A *cell* is
one training run with its evaluations; an *axis* is a setting in which cells differ; an *arm* is one
of the objectives that are compared.
"""
