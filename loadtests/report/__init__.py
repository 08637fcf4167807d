"""Samples as Markdown, which reads well in a terminal too."""
