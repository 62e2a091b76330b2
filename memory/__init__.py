"""Concept memory: lessons that outlive a run (ArcMemo). Not there yet; README.md says what is."""
