"""Figures, tables and the one page that says what was found."""
