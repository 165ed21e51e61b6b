"""Studies: grids of training runs, and the tables and figures made of their results.

``python -m fgmm.study`` runs a grid (``grid``, ``programs``, ``schedule``), tunes it first
(``tuning``) and keeps one small file for each cell (``outcome``). ``python -m fgmm.study.page``
makes a page of these files (``intervals``, ``headline``, ``figures``). A *cell* is one training run
with its evaluations; an *axis* is what cells differ in; an *arm* is an objective that is compared.
"""
