"""Gates: cheap checks between a request's text and a candidate's, each of which may refuse the reuse.

A text is analysed once (``analyse``) and its ``Analysis`` kept beside it; a gate compares two analyses and never
looks at the texts again. Pure: no model, no I/O. Nothing here raises, whatever the text holds.
"""

from cachesvc.core.gates.analysis import Analysis, analyse
from cachesvc.core.gates.gate import DEFAULT_GATES, Gate, Veto
from cachesvc.core.gates.verdicts import first_veto, verdicts

__all__ = ["DEFAULT_GATES", "Analysis", "Gate", "Veto", "analyse", "first_veto", "verdicts"]
