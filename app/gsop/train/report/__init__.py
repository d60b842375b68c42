"""What a model's answers to labelled images are worth, which are wrong, and what may be why.

::

    answers.py   one row an image      rates.py     shares with their intervals, paired comparison
    figures.py   what they come to     alike.py     images that look alike
    suspects.py  labels in doubt       drawing.py   curves and confusions, tiles of gates
    findings.py  all of it together    page.py      report.html        written.py  the files
"""
