"""
The names of runs in a comparison: the labels in which they differ, or their files.
"""

from collections.abc import Sequence

from echofactory.report.compare import Run
from echofactory.results.labels import differingLabels, labelsText


def namedByLabels(runs: Sequence[Run]) -> list[Run]:
    """
    Return the runs with names that tell them apart.

     - If the labels in which the runs differ are different for each run, these labels are the
       names.
     - Otherwise, if each run has another title, the titles are the names.
     - Otherwise, the names stay.
    """
    if len(runs) < 2:
        return list(runs)
    labels = [
        labelsText(each) for each in differingLabels([run.results.labels for run in runs])
    ]
    for names in (labels, [run.results.title for run in runs]):
        if all(names) and len(set(names)) == len(runs):
            pairs = zip(names, runs, strict=True)
            return [Run.named(name, run.results) for name, run in pairs]
    return list(runs)
